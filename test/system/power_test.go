//go:build system

package system

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// seeded returns the test's random numbers and prints how to repeat them.
func seeded(t *testing.T) (uint64, *rand.Rand) {
	t.Helper()
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("RAFTSMAN_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("RAFTSMAN_SEED=%d", seed)
	return seed, rand.New(rand.NewPCG(seed, 0))
}

// onDisks starts three nodes, each on a file system of its own.
func onDisks(t *testing.T, bytes int64, options func() string, flags ...string) (*cluster, []*disk) {
	t.Helper()
	var disks []*disk
	for range 3 {
		disks = append(disks, newDisk(t, bytes, options()))
	}
	c := startClusterWith(t, 3, 5*time.Second, func(id int) []string {
		return append([]string{"--data-dir", disks[id-1].data()}, flags...)
	})
	return c, disks
}

func plain() string { return "" }

// power is one run of TestPowerLoss.
type power struct {
	*testing.T
	c     *cluster
	disks []*disk
	rnd   *rand.Rand
	load  *spread
	made  int // topics
}

// TestPowerLoss cuts the power of nodes under load, over and over: a shut-down
// file system loses what was not fsynced and fails everything after. The nodes
// end with an error that says so; after the journals were replayed and the nodes
// started again, every acknowledged record is there, once and in order.
func TestPowerLoss(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	seed, rnd := seeded(t)
	options := func() string {
		return []string{"", "data=writeback", "nodelalloc", "commit=1"}[rnd.IntN(4)]
	}
	// A small log and small segments: recycled files, manifests, and segments
	// that begin and go are under way at any time.
	c, disks := onDisks(t, 2<<30, options, "--wal-file-size", "4194304", "--wal-size-limit", "33554432", "--segment-bytes", "262144")
	p := &power{T: t, c: c, disks: disks, rnd: rnd}
	p.load = startSpread(t, c.kafka, seed)
	p.topic("wide", 16, false, false)
	p.topic("short", 3, false, true, "--config", "retention.bytes=600000")
	p.topic("idle", 4, true, false)

	variants := []struct {
		name string
		do   func() string
	}{
		{"all three", func() string { return p.cut(1, 2, 3) }},
		{"one", func() string { return p.cutSome(1) }},
		{"two", func() string { return p.cutSome(2) }},
		{"all three, killed at that moment", p.cutAndKill},
		{"all three, and again while they recover", p.cutTwice},
		{"one, and again while it recovers", p.cutOneTwice},
	}
	first := rnd.IntN(len(variants)) // each once, then by chance
	for round := range repetitions(len(variants)) {
		v := variants[(first+round)%len(variants)]
		if round >= len(variants) {
			v = variants[rnd.IntN(len(variants))]
		}
		p.round(round+1, v.name, v.do)
	}
	p.load.finish(t)
	p.load.verify(t, c.kafka)
	p.verifyWithout()
	p.checkCoverage()
}

func (p *power) topic(name string, partitions int, idle, trimmed bool, flags ...string) {
	p.Helper()
	p.c.createWith(name, append([]string{"--partitions", fmt.Sprint(partitions)}, flags...)...)
	p.load.add(name, partitions, idle, trimmed)
	p.made++
}

// round loads the cluster, harms it and waits until every partition takes
// records again.
func (p *power) round(n int, name string, harm func() string) {
	p.Helper()
	before := p.load.begin(2 * n)
	p.load.writeAll()
	stop := p.createMore(n)
	enough := before + 1000 + p.rnd.IntN(3000)
	waitFor(p.T, "acknowledgements", time.Minute, func() bool { return p.load.acknowledged() > enough })
	at := time.Now()
	ended := harm()
	up := time.Since(at)
	created := stop()
	for id := 1; id <= 3; id++ {
		p.c.waitReady(id)
	}
	for _, topic := range created {
		waitFor(p.T, "a leader of "+topic, 20*time.Second, func() bool { return p.c.leader(topic, 0) > 0 })
		p.load.add(topic, 1, true, false)
	}
	p.load.begin(2*n + 1)
	p.load.writeAll()
	waitFor(p.T, "acknowledgements in every partition after: "+name, time.Minute, func() bool { return p.load.everywhere(2*n + 1) })
	p.Logf("round %d, %s: %s; started again after %v, all partitions written to %v after the cut; %d topics created meanwhile, %d acknowledged in all",
		n, name, ended, up.Round(time.Millisecond), time.Since(at).Round(time.Millisecond), len(created), p.load.acknowledged())
	if p.Failed() {
		p.FailNow()
	}
}

// createMore creates topics until its result is called, which returns those
// whose creation was confirmed.
func (p *power) createMore(round int) (stop func() []string) {
	quit, done := make(chan struct{}), make(chan []string)
	go func() {
		var created []string
		for i := 0; ; i++ {
			select {
			case <-quit:
				done <- created
				return
			default:
			}
			if i == 5 {
				<-quit
				continue
			}
			name := fmt.Sprintf("made-%d-%d", round, i)
			if out, err := p.c.raftsman("topic", "create", name, "--replication-factor", "3"); err == nil && strings.Contains(out, "created") {
				created = append(created, name)
			}
		}
	}()
	return func() []string {
		close(quit)
		return <-done
	}
}

// off cuts nodes' power at once, and kills them if told so.
func (p *power) off(kill bool, ids ...int) {
	p.Helper()
	var wg sync.WaitGroup
	begin := make(chan struct{})
	errs := make([]error, len(ids))
	for i, id := range ids {
		wg.Go(func() {
			<-begin
			errs[i] = p.disks[id-1].powerOff()
		})
		if kill {
			wg.Go(func() {
				<-begin
				_ = p.c.node(id).cmd.Process.Signal(syscall.SIGKILL) // it may have ended by itself
			})
		}
	}
	close(begin)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			p.Fatal(err)
		}
	}
}

// ends waits until nodes have ended, and checks what they said at last.
func (p *power) ends(killed bool, ids ...int) string {
	p.Helper()
	at := time.Now()
	var how []string
	for _, id := range ids {
		n := p.c.node(id)
		select {
		case <-n.done:
		case <-time.After(time.Minute):
			p.Fatalf("node %d goes on for a minute without its disk", id)
		}
		how = append(how, fmt.Sprintf("node %d ended after %v", id, time.Since(at).Round(time.Millisecond)))
		if killed {
			continue
		}
		if n.cmd.ProcessState.ExitCode() <= 0 {
			p.Errorf("node %d ended with %v; it must fail", id, n.cmd.ProcessState)
		}
		last := lastLine(n.logs())
		broken := strings.Contains(last, "input/output error") || strings.Contains(last, "read-only file system")
		if !broken || !strings.Contains(last, p.disks[id-1].dir) {
			p.Errorf("node %d said at last %q; it must name the file and the error", id, last)
		}
	}
	return strings.Join(how, ", ")
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// ended says whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *power) on(ids ...int) {
	p.Helper()
	for _, id := range ids {
		p.disks[id-1].remount()
	}
	for _, id := range ids {
		p.c.node(id).start()
	}
}

func (p *power) cut(ids ...int) string {
	p.Helper()
	p.off(false, ids...)
	how := p.ends(false, ids...)
	p.on(ids...)
	return how
}

// cutSome takes n nodes; with one gone the others go on.
func (p *power) cutSome(n int) string {
	p.Helper()
	ids := p.rnd.Perm(3)[:n]
	for i := range ids {
		ids[i]++
	}
	slices.Sort(ids)
	p.off(false, ids...)
	how := p.ends(false, ids...)
	if n == 1 {
		more := p.load.acknowledged() + 300
		waitFor(p.T, "acknowledgements of the two that are left", time.Minute, func() bool { return p.load.acknowledged() > more })
	}
	p.on(ids...)
	return how
}

func (p *power) cutAndKill() string {
	p.Helper()
	p.off(true, 1, 2, 3)
	how := p.ends(true, 1, 2, 3)
	p.on(1, 2, 3)
	return how
}

func (p *power) cutTwice() string    { return p.twice(1, 2, 3) }
func (p *power) cutOneTwice() string { return p.twice(1 + p.rnd.IntN(3)) }

// twice cuts again at some moment of the recovery. The nodes may be too young to
// notice by themselves that their disk is gone: they are killed then.
func (p *power) twice(ids ...int) string {
	p.Helper()
	how := p.cut(ids...)
	pause := time.Duration(p.rnd.IntN(1500)) * time.Millisecond
	at := time.Now()
	waitFor(p.T, "the next cut", time.Minute, func() bool { return time.Since(at) > pause })
	p.off(true, ids...)
	p.ends(true, ids...)
	p.on(ids...)
	return how + fmt.Sprintf("; and again %v after the start", pause)
}

// verifyWithout reads all again with each node away once, so that every
// partition is read from two replicas at least.
func (p *power) verifyWithout() {
	p.Helper()
	for id := 1; id <= 3; id++ {
		p.c.node(id).kill()
		p.load.verify(p.T, p.c.kafka)
		for other := 1; other <= 3; other++ {
			if n := p.c.node(other); other != id && n.ended() {
				p.Fatalf("%s ended by itself: %v", n.name, n.cmd.ProcessState)
			}
		}
		p.c.node(id).start()
		p.c.waitReady(id)
	}
}

// checkCoverage makes sure that the load was what it was meant to be.
func (p *power) checkCoverage() {
	p.Helper()
	if p.load.removed == 0 {
		p.Error("retention removed nothing: the load was too small")
	}
	for i, d := range p.disks {
		wal, _ := filepath.Glob(filepath.Join(d.data(), "wal", "*.wal"))
		segments, _ := filepath.Glob(filepath.Join(d.data(), "partitions", "*", "log", "*.log"))
		manifests, _ := filepath.Glob(filepath.Join(d.data(), "manifests", "*.manifests"))
		if len(wal) == 0 || len(manifests) == 0 {
			p.Fatalf("node %d has no write-ahead log or manifests in %s", i+1, d.data())
		}
		slices.Sort(wal)
		oldest, newest := filepath.Base(wal[0]), filepath.Base(wal[len(wal)-1])
		size := int64(0)
		if st, err := os.Stat(manifests[0]); err == nil {
			size = st.Size()
		}
		p.Logf("node %d: log files %s to %s, %d segments, manifests %s of %d bytes, mounted with %s", i+1, oldest, newest, len(segments), filepath.Base(manifests[0]), size, d.options)
		if oldest == "0000000000000001.wal" {
			p.Errorf("node %d released no file of its write-ahead log: the load was too small", i+1)
		}
	}
}
