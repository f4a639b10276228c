package kafka_test

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	checkEvery = 250  // inputs between two looks at what the node keeps
	lifeEvery  = 4000 // inputs of a node, which is then started again, on its data or without

	// What an input may have the process allocate: some, so many times what was sent
	// (an element of an array takes that much more in memory than on the wire), and
	// so many times what it may receive: the node reads it, and this process too.
	allocBase, allocSent, allocReceived = 48 << 20, 400, 6

	maxHeap       = 256 << 20 // live, of a node that serves
	maxHeapAfter  = 64 << 20  // after its end
	fuzzerHeap    = 100 << 20 // what Go's fuzzer itself holds, in its workers
	maxGoroutines = 1500      // above those of a new node

	maxHeld = 64               // connections that wait for something
	grace   = 25 * time.Second // that an answer may take on top of what its request waits for
	longest = 10 * time.Second // requests that may wait longer are left alone
)

// FuzzRecorded changes requests that real clients have sent, and made ones of what
// they don't send, and sends them to a whole node. It does not panic, it answers
// each request or hangs up, it allocates no more than what it is sent is worth,
// and what was stored before is still there. Inputs are scripts (parse).
//
// RAFTSMAN_FUZZ_TRAIL names a directory where each worker writes a log of its
// inputs, what a panic says, and what the heap held when that was too much.
func FuzzRecorded(f *testing.F) {
	fuzzing := flag.Lookup("test.fuzz").Value.String() != ""
	for id := range seeds() {
		f.Add(plain(awaited, id))
		if fuzzing {
			f.Add(append([]byte{byte(id >> 8), byte(id), awaited | resealed, 1, setField, byte(id), byte(id), byte(id * 7)}, plain(onSecond|asSent, id)...))
			f.Add([]byte{byte(id >> 8), byte(id), 0, 1, multiply, 0, byte(id), byte(10 + id%7)})
		}
	}
	if fuzzing {
		for _, s := range systematic() {
			f.Add(s)
		}
		for id := range seeds() {
			if id == 0 || seeds()[id].key != seeds()[id-1].key { // one of each API
				f.Add([]byte{byte(id >> 8), byte(id), 0, 1, setLength, 0, 0, mostOfProduce})
				f.Add([]byte{byte(id >> 8), byte(id), 0, 1, setLength, 0, 0, mostOfOthers})
			}
		}
	}
	for _, s := range sequences() {
		f.Add(plain(awaited, s...))
		f.Add(plain(0, s...))
	}
	for _, frame := range regressions {
		f.Add(literal(awaited, frame))
	}
	w := &world{groups: map[string]time.Duration{}, patient: flag.Lookup("test.fuzzworker").Value.String() != "true"}
	f.Cleanup(func() {
		if err := w.finish(); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 1<<14 {
			return
		}
		if w.etcd == "" {
			if err := w.begin(); err != nil {
				t.Fatal(err)
			}
		}
		w.run(t, script)
	})
}

// regressions are requests that have found something.
var regressions [][]byte

// world is a node and what comes after it.
type world struct {
	patient  bool // no fuzzer kills the process if an input takes ten seconds
	etcd     string
	stopEtcd func() error
	dir      string
	lives    int  // nodes that began with nothing
	again    bool // the present life goes on where the one before ended
	runs     int  // of the present life

	life      *life
	ids       ids
	held      []*client
	groups    map[string]time.Duration // the longest rebalance timeout asked for
	upkeep    chan error               // of the upkeep under way; nil if there is none
	routines  int                      // of a new node
	idle      int                      // goroutines without a node
	trail     *os.File
	mostAlloc uint64
	room      int // what the present input's fetches ask for
}

func (w *world) begin() (err error) {
	if w.dir, err = os.MkdirTemp("", "fuzz"); err != nil {
		return err
	}
	if w.etcd, w.stopEtcd, err = startEtcd(filepath.Join(w.dir, "etcd")); err != nil {
		return err
	}
	w.idle = runtime.NumGoroutine()
	dir := os.Getenv("RAFTSMAN_FUZZ_TRAIL")
	if dir == "" {
		return nil
	}
	name := filepath.Join(dir, fmt.Sprint(os.Getpid()))
	crash, err := os.Create(name + ".crash")
	if err != nil {
		return err
	}
	if err := debug.SetCrashOutput(crash, debug.CrashOptions{}); err != nil {
		return err
	}
	w.trail, err = os.Create(name + ".trail")
	return err
}

func (w *world) log(script []byte) {
	if w.trail != nil {
		fmt.Fprintf(w.trail, "%s %s\n", time.Now().Format(time.StampMilli), base64.StdEncoding.EncodeToString(script))
	}
}

// ready sees to it that there is a node, and that it is looked at from time to time.
// That takes longer than a fuzzer lets an input take, so it goes on beside inputs,
// which do nothing until it is over.
func (w *world) ready(t *testing.T) bool {
	if w.upkeep == nil && (w.life == nil || w.runs%checkEvery == 0) {
		w.upkeep = make(chan error, 1)
		go func() { w.upkeep <- w.keepUp() }()
	}
	if w.upkeep == nil {
		return true
	}
	limit := 4 * time.Second
	if w.patient {
		limit = 10 * patience
	}
	select {
	case err := <-w.upkeep:
		w.upkeep = nil
		if err != nil {
			w.life, w.again = nil, false
			t.Fatal(err)
		}
		return true
	case <-time.After(limit):
		return false
	}
}

func (w *world) finish() error {
	var err error
	if w.upkeep != nil {
		err = <-w.upkeep
	}
	if w.life != nil {
		err = errors.Join(err, w.bury())
	}
	if w.stopEtcd != nil {
		err = errors.Join(err, w.stopEtcd())
	}
	if w.dir != "" {
		err = errors.Join(err, os.RemoveAll(w.dir))
	}
	return err
}

// keepUp begins a life, or looks at the present one. After an error there is none.
func (w *world) keepUp() (err error) {
	var kept [][]string
	if w.life != nil {
		err := w.examine()
		if err == nil && w.runs < lifeEvery {
			return nil
		}
		if err := errors.Join(err, w.bury()); err != nil {
			return err
		}
		if w.again = !w.again; w.again {
			kept = w.life.kept
		}
	}
	if kept == nil {
		if err := os.RemoveAll(w.data()); err != nil {
			return err
		}
		w.lives++
	}
	l, err := bear(w.etcd, w.data(), fmt.Sprint("life-", w.lives), kept)
	if err != nil {
		return err
	}
	if w.trail != nil {
		fmt.Fprintf(w.trail, "life %d, again %t; until now an input has allocated %d at most\n", w.lives, w.again, w.mostAlloc)
	}
	clear(w.groups)
	w.life, w.runs, w.routines = l, 0, runtime.NumGoroutine()
	w.ids = ids{topic: l.topicID}
	return nil
}

// data is the node's directory.
func (w *world) data() string { return filepath.Join(w.dir, fmt.Sprint("node-", w.lives)) }

// examine writes and reads as any client does, and looks at what the process holds.
func (w *world) examine() error {
	if err := w.life.checkUp(); err != nil {
		return fmt.Errorf("after %d inputs: %w", w.runs, err)
	}
	w.ids.topic = w.life.topicID
	if err := few("goroutines", w.routines+maxGoroutines+8*len(w.held)); err != nil {
		return err
	}
	return w.live(maxHeap)
}

// bury waits for what is held, ends the node, and looks at what is left.
func (w *world) bury() (err error) {
	for _, c := range w.held {
		done, cerr := c.await(c.holding.Add(w.allowed(c)))
		if cerr == nil && !done {
			cerr = c.overdue()
		}
		c.close()
		err = errors.Join(err, cerr)
	}
	w.held = nil
	err = errors.Join(err, w.life.end())
	if err != nil {
		return err
	}
	return errors.Join(few("goroutines without a node", w.idle+10), w.live(maxHeapAfter))
}

// few waits until there are few goroutines.
func few(what string, most int) error {
	return retry(what, func() error {
		if n := runtime.NumGoroutine(); n > most {
			return fmt.Errorf("%d, at most %d are due", n, most)
		}
		return nil
	})
}

// live bounds what is reachable.
func (w *world) live(most uint64) error {
	if !w.patient {
		most += fuzzerHeap
	}
	n := uint64(0)
	for range 3 { // pools let go at the second
		runtime.GC()
		if n = metric("/memory/classes/heap/objects:bytes"); n <= most {
			return nil
		}
	}
	if w.trail != nil {
		if f, err := os.Create(w.trail.Name() + ".heap"); err == nil {
			_ = pprof.WriteHeapProfile(f)
			f.Close()
		}
	}
	return fmt.Errorf("%d bytes are live, at most %d are due", n, most)
}

func metric(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// run runs a script.
func (w *world) run(t *testing.T, script []byte) {
	if !w.ready(t) {
		return
	}
	w.runs++
	w.log(script)
	if err := w.checkHeld(); err != nil {
		t.Fatal(err)
	}
	requests := parse(script)
	for again := 0; ; again++ {
		before := metric("/gc/heap/allocs:bytes")
		w.room = 0
		sent, received, err := w.play(requests)
		if err != nil {
			w.tell(t, requests)
			t.Fatal(err)
		}
		took := metric("/gc/heap/allocs:bytes") - before
		w.mostAlloc = max(w.mostAlloc, took)
		limit := uint64(allocBase + allocSent*sent + allocReceived*(received+w.room))
		if took <= limit {
			return
		}
		if again == 2 { // once, the node may have had something else to do
			w.tell(t, requests)
			t.Fatalf("%d bytes sent, %d received and up to %d to come took %d bytes of memory, at most %d are due", sent, received, w.room, took, limit)
		}
	}
}

func (w *world) tell(t *testing.T, requests []request) {
	for _, q := range requests {
		t.Logf("length %d, flags %b: %x", int32(q.prefix), q.flags, q.frame)
	}
}

// play sends the requests, and waits for the answers as far as they are due.
func (w *world) play(requests []request) (sent, received int, err error) {
	var conns [2]*client
	defer func() {
		for _, c := range conns {
			if c != nil && err != nil {
				c.close()
			}
		}
	}()
	over := time.Now().Add(5 * time.Second) // the fuzzer gives an input ten
	w.ids.group = fmt.Sprintf("%s%02d", holdGroup[:len(holdGroup)-2], w.runs/40%100)
	w.ids.member, w.ids.session = "", nil
	for i, q := range requests {
		at := &conns[q.flags&onSecond]
		if *at == nil {
			if *at, err = dial(w.life.node.KafkaAddr()); err != nil {
				return sent, received, err
			}
		}
		c := *at
		frame := q.frame
		if q.flags&asSent == 0 {
			frame = w.ids.apply(frame)
		}
		if len(frame) >= 8 {
			binary.BigEndian.PutUint32(frame[4:], uint32(i*1000+7))
		}
		b := append(binary.BigEndian.AppendUint32(nil, q.prefix), frame...)
		if w.tooMuch(c, b) {
			continue
		}
		c.expect(b, w.wait)
		if err := c.send(b); err != nil {
			return sent, received, err
		}
		sent += len(b)
		if q.flags&awaited != 0 {
			if _, err := c.await(w.due(c, over)); err != nil {
				return sent, received, err
			}
			got, n := c.answers()
			w.ids.learn(got)
			received += n
		}
		if q.flags&hungUp != 0 || c.gone() {
			c.close()
			_, n := c.answers()
			received, *at = received+n, nil
		}
	}
	for i, c := range conns {
		if c == nil {
			continue
		}
		c.finish()
		done, err := c.await(w.due(c, over))
		_, n := c.answers()
		if received += n; err != nil {
			return sent, received, err
		}
		if conns[i] = nil; !done && c.waits() <= longest && len(w.held) < maxHeld {
			c.holding = time.Now()
			w.held = append(w.held, c)
			continue
		}
		c.close()
	}
	return sent, received, nil
}

// due is until when an input waits for a connection's answers. If they have not
// come by then it is held.
func (w *world) due(c *client, over time.Time) time.Time {
	limit := time.Now().Add(2 * time.Second)
	if c.waits() > 0 {
		limit = time.Now().Add(40 * time.Millisecond)
	}
	if limit.After(over) {
		return over
	}
	return limit
}

// allowed is how long a connection may be held.
func (w *world) allowed(c *client) time.Duration { return c.waits() + grace }

// checkHeld lets go of connections that have their answers, and finds those whose
// answers do not come.
func (w *world) checkHeld() (err error) {
	left := w.held[:0]
	for _, c := range w.held {
		done, cerr := c.settled()
		if !done && time.Since(c.holding) > w.allowed(c) {
			done, cerr = true, c.overdue()
		}
		if done {
			c.close()
			err = errors.Join(err, cerr)
		} else {
			left = append(left, c)
		}
	}
	w.held = left
	return err
}

// wait notes what a request asks for, and is how long it may have to wait for
// something other than the node.
func (w *world) wait(req kmsg.Request) time.Duration {
	ms := func(n int32) time.Duration { return time.Duration(max(n, 0)) * time.Millisecond }
	switch r := req.(type) {
	case *kmsg.FetchRequest:
		w.room += int(min(max(r.MaxBytes, 0), 55<<20))
		return ms(r.MaxWaitMillis)
	case *kmsg.JoinGroupRequest:
		asks := ms(r.RebalanceTimeoutMillis)
		if r.Version == 0 {
			asks = ms(r.SessionTimeoutMillis)
		}
		w.groups[r.Group] = max(w.groups[r.Group], asks)
		return w.rebalance(r.Group)
	case *kmsg.SyncGroupRequest:
		return w.rebalance(r.Group)
	}
	return 0
}

// rebalance is how long both phases of a rebalance take at most.
func (w *world) rebalance(group string) time.Duration {
	if w.groups[group] > math.MaxInt64/4 {
		return math.MaxInt64 / 2
	}
	return 2*w.groups[group] + 2*time.Second
}

// tooMuch says whether bytes ask for more than a small machine has: topics and
// partitions are given to whoever wants them.
func (w *world) tooMuch(c *client, b []byte) bool {
	all := append(append([]byte(nil), c.stream...), b...)
	probe := client{}
	probe.expect(all, func(kmsg.Request) time.Duration { return 0 })
	for _, a := range probe.asked {
		n := 0
		switch r := a.req.(type) {
		case *kmsg.CreateTopicsRequest:
			for _, t := range r.Topics {
				n += max(int(t.NumPartitions), len(t.ReplicaAssignment), 1)
			}
		case *kmsg.CreatePartitionsRequest:
			for _, t := range r.Topics {
				n += int(max(t.Count, 0))
			}
		case *kmsg.MetadataRequest:
			if r.AllowAutoTopicCreation || r.Version < 4 {
				n = len(r.Topics)
			}
		}
		if n > 16 {
			return true
		}
	}
	return false
}
