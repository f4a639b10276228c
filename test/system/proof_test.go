//go:build system

package system

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testcluster"
)

// TestFrozenFsync freezes fdatasync of two of the three processes, whichever
// lead, by strace: of what is sent from then on nothing is acknowledged, be it
// with acks=all or acks=1. With one frozen all goes on.
func TestFrozenFsync(t *testing.T) {
	c := startCluster(t, 3, 10*time.Second)
	const partitions = 6
	c.createMany("numbers", partitions)
	acks := []*steady{
		startSteady(t, c, "idempotent", partitions),
		startSteady(t, c, "acks=all", partitions, kgo.DisableIdempotentWrite()),
		startSteady(t, c, "acks=1", partitions, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck())),
	}
	hang := func(id int) *strace {
		return c.trace(t, id, "-e", "trace="+syncCalls, "-e", "inject="+syncCalls+":delay_enter=600000000")
	}
	goOn := func(what string) {
		for _, s := range acks {
			from := s.sent()
			waitFor(t, what+": acknowledgements of all partitions to "+s.name, 40*time.Second, func() bool { return s.partitionsFrom(from) == partitions })
		}
	}
	goOn("at first")
	for _, frozen := range [][]int{{1, 2}, {1, 3}, {2, 3}, {1}, {2}, {3}} {
		var tracers []*strace
		for _, id := range frozen {
			tracers = append(tracers, hang(id))
		}
		if len(frozen) == 1 {
			goOn(fmt.Sprint("with node ", frozen[0], " frozen"))
		} else {
			from := make([]int, len(acks))
			for i, s := range acks {
				from[i] = s.sent()
			}
			for i, wait := range []time.Duration{time.Second, 6 * time.Second} {
				<-time.After(wait)
				for j, s := range acks {
					if n := s.ackedFrom(from[j]); n > 0 {
						t.Errorf("nodes %v frozen, look %d: %d records of %s were acknowledged", frozen, i+1, n, s.name)
					}
					if s.sent() < from[j]+100 {
						t.Errorf("nodes %v frozen: %s sent hardly anything", frozen, s.name)
					}
				}
			}
		}
		for _, s := range tracers {
			s.stop()
		}
		goOn(fmt.Sprint("after nodes ", frozen, " thawed"))
	}
	finishSteady(t, c, acks)
}

// steady is a producer that sends numbers to partitions in turn at a steady
// pace, whatever becomes of them.
type steady struct {
	name       string
	partitions int
	client     *kgo.Client
	stop, done chan struct{}

	mu     sync.Mutex
	next   int
	acked  map[int]bool
	failed error
}

func startSteady(t *testing.T, c *cluster, name string, partitions int, opts ...kgo.Opt) *steady {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.kafka...), kgo.DefaultProduceTopic("numbers"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1 << 16), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.ProduceRequestTimeout(2 * time.Second), kgo.RequestTimeoutOverhead(3 * time.Second)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	s := &steady{name: name, partitions: partitions, client: client, stop: make(chan struct{}), done: make(chan struct{}), acked: make(map[int]bool)}
	go s.run()
	t.Cleanup(func() { s.halt(); client.Close() })
	return s
}

func (s *steady) run() {
	defer close(s.done)
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-pace.C:
		}
		s.mu.Lock()
		n := s.next
		s.next++
		s.mu.Unlock()
		s.client.Produce(context.Background(), &kgo.Record{Partition: int32(n % s.partitions), Value: fmt.Append(nil, s.name, " ", n)}, func(_ *kgo.Record, err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if err != nil {
				s.failed = fmt.Errorf("%s, record %d: %w", s.name, n, err)
				return
			}
			s.acked[n] = true
		})
	}
}

func (s *steady) halt() {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	<-s.done
}

func (s *steady) sent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

func (s *steady) ackedFrom(from int) (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.acked {
		if n >= from {
			count++
		}
	}
	return count
}

// partitionsFrom is the number of partitions with an acknowledged record from
// that number on.
func (s *steady) partitionsFrom(from int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := make(map[int]bool)
	for n := range s.acked {
		if n >= from {
			seen[n%s.partitions] = true
		}
	}
	return len(seen)
}

// finishSteady stops all producers and reads everything back: each acknowledged
// record is there, an idempotent producer's once.
func finishSteady(t *testing.T, c *cluster, all []*steady) {
	t.Helper()
	for _, s := range all {
		s.halt()
	}
	for _, s := range all {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := s.client.Flush(ctx); err != nil || s.failed != nil {
			t.Fatalf("%s: flush: %v, failed: %v", s.name, err, s.failed)
		}
		cancel()
	}
	out := command(t, "", "kcat", "-b", strings.Join(c.kafka, ","), "-C", "-t", "numbers", "-e", "-q", "-o", "beginning")
	for _, s := range all {
		s.verify(t, out)
	}
}

func (s *steady) verify(t *testing.T, out []byte) {
	t.Helper()
	times := make(map[int]int)
	for _, line := range strings.Split(string(out), "\n") {
		if rest, ok := strings.CutPrefix(line, s.name+" "); ok {
			n, err := strconv.Atoi(rest)
			if err != nil {
				t.Fatalf("%q is none of the records", line)
			}
			times[n]++
		}
	}
	lost, twice := 0, 0
	for n := range s.acked {
		if times[n] == 0 {
			lost++
		}
		if times[n] > 1 {
			twice++
		}
	}
	if lost > 0 || s.name == "idempotent" && twice > 0 {
		t.Errorf("%s: of %d acknowledged records %d are lost, %d are there twice", s.name, len(s.acked), lost, twice)
	}
	t.Logf("%s: %d acknowledged, all there, %d more than once", s.name, len(s.acked), twice)
}

// relayed puts a relay in front of each node's Kafka port and has the nodes tell
// clients of it.
func (c *cluster) relayed(t *testing.T) (relays []*testcluster.Relay, addrs []string) {
	t.Helper()
	for i, p := range c.nodes {
		r, err := testcluster.NewRelay(c.kafka[i])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		relays, addrs = append(relays, r), append(addrs, r.Addr())
		p.kill()
		p.args = append(p.args, "--kafka-advertise", r.Addr())
		p.start()
	}
	for i := range c.nodes {
		c.waitReady(i + 1)
	}
	return relays, addrs
}

// TestResponsesSwallowedThenKilled loses the leader's responses, all or from the
// middle of one on, and then kills the leader: what franz-go's and kcat's
// idempotent producers wrote is there once and in order. RAFTSMAN_SEED repeats a
// run's choices, RAFTSMAN_REPEAT makes it longer.
func TestResponsesSwallowedThenKilled(t *testing.T) {
	seed := rand.Uint64() >> 16
	if s, err := strconv.ParseUint(os.Getenv("RAFTSMAN_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("RAFTSMAN_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := startCluster(t, 3, 10*time.Second)
	relays, addrs := c.relayed(t)
	// No leadership goes back while the test looks where it is.
	c.etcdctl("put", "/raftsman/default/config/rebalance", `{"paused":true}`)
	c.create("numbers", 1)
	c.create("lines", 1)
	l := startLoad(t, addrs, "numbers")
	k := startKcat(t, addrs, "lines")
	for i := range repetitions(8) {
		topic := []string{"numbers", "lines"}[i%2]
		var leader int
		waitFor(t, "a leader", 20*time.Second, func() bool {
			leader = c.leader(topic, 0)
			return leader > 0
		})
		n := l.ackedSince(time.Time{})
		waitFor(t, "acknowledgements", 30*time.Second, func() bool { return l.ackedSince(time.Time{}) > n+200 })
		r := relays[leader-1]
		lost, spare := r.Swallowed(), rnd.IntN(2)*rnd.IntN(400)
		r.Turn(testcluster.Open, testcluster.Swallow, spare)
		waitFor(t, "lost responses", 30*time.Second, func() bool { return r.Swallowed() > lost }) // librdkafka waits up to 10 s before it connects again
		if rnd.IntN(2) == 0 {                                                                     // the clients connect again, and hear nothing again
			lost = r.Swallowed()
			r.Drop()
			waitFor(t, "more lost responses", 30*time.Second, func() bool { return r.Swallowed() > lost })
		}
		c.node(leader).kill()
		r.Turn(testcluster.Open, testcluster.Open, 0)
		r.Drop()
		c.node(leader).start()
		c.waitReady(leader)
		t.Logf("round %d: node %d, leader of %s, killed after %d bytes and then no response", i+1, leader, topic, spare)
	}
	k.finish(t, c)
	l.finish(t)
	l.verify(t, addrs)
}

// kcat is an idempotent librdkafka producer that is fed lines.
type kcat struct {
	cmd        *exec.Cmd
	complaints bytes.Buffer
	stop, done chan struct{}
	want       bytes.Buffer
	failed     atomic.Pointer[error]
}

func startKcat(t *testing.T, brokers []string, topic string) *kcat {
	t.Helper()
	k := &kcat{stop: make(chan struct{}), done: make(chan struct{})}
	k.cmd = exec.CommandContext(t.Context(), "kcat", "-b", strings.Join(brokers, ","), "-P", "-t", topic, "-p", "0",
		"-X", "enable.idempotence=true", "-X", "acks=all", "-X", "linger.ms=5", "-X", "socket.timeout.ms=10000", "-q", "-E") // -E: that all brokers are down for a moment is no reason to end
	stdin, err := k.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	k.cmd.Stderr = &k.complaints
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(k.done)
		defer stdin.Close()
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		for n := 0; ; n++ {
			select {
			case <-k.stop:
				return
			case <-pace.C:
			}
			line := fmt.Sprintf("line %d\n", n)
			k.want.WriteString(line)
			if _, err := stdin.Write([]byte(line)); err != nil {
				k.failed.Store(&err)
				return
			}
		}
	}()
	return k
}

func (k *kcat) finish(t *testing.T, c *cluster) {
	t.Helper()
	close(k.stop)
	<-k.done
	if err := k.failed.Load(); err != nil {
		t.Fatalf("kcat takes no more: %v\n%s", *err, k.complaints.String())
	}
	if err := k.cmd.Wait(); err != nil {
		t.Fatalf("kcat: %v\n%s", err, k.complaints.String())
	}
	got := command(t, "", "kcat", "-b", strings.Join(c.kafka, ","), "-C", "-t", "lines", "-e", "-q")
	if !bytes.Equal(got, k.want.Bytes()) {
		gotLines, wantLines := bytes.Split(got, []byte("\n")), bytes.Split(k.want.Bytes(), []byte("\n"))
		for i := range min(len(gotLines), len(wantLines)) {
			if !bytes.Equal(gotLines[i], wantLines[i]) {
				t.Fatalf("line %d is %q, want %q", i, gotLines[i], wantLines[i])
			}
		}
		t.Fatalf("%d lines, want %d", len(gotLines), len(wantLines))
	}
	t.Logf("kcat: %d lines, all there once and in order", bytes.Count(got, []byte("\n")))
}
