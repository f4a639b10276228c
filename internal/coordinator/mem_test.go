package coordinator

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/group"
	"github.com/raftsman/raftsman/internal/partition"
)

// memLog is a partition in memory, led in a term or not.
type memLog struct {
	mu       sync.Mutex
	bytes    []byte // all batches
	starts   []int  // of each batch in bytes
	bases    []int64
	next     int64
	term     uint64 // 0: somebody else leads
	changed  chan struct{}
	held     []func()
	hold     bool
	fail     error // of the next appends
	verifies int
	gate     chan struct{} // Verify waits until it is closed, if set
	unsure   error         // of Verify
	most     int           // of a batch, if set
}

func newMemLog() *memLog { return &memLog{term: 1, changed: make(chan struct{})} }

func (l *memLog) Serves(term uint64) (start, end int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return 0, l.next, l.term == term
}

func (l *memLog) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *memLog) lead(term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term = term
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *memLog) Read(offset int64, maxBytes int) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == 0 {
		return nil, partition.ErrNotLeader
	}
	for i, base := range l.bases {
		if base >= offset {
			from := l.starts[i]
			to := len(l.bytes)
			if i+1 < len(l.starts) {
				to = l.starts[i+1] // one at a time: chunks end anywhere
			}
			return append([]byte(nil), l.bytes[from:to]...), nil
		}
	}
	return nil, nil
}

func (l *memLog) MaxBatch() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most == 0 {
		return 10 << 20
	}
	return l.most
}

func (l *memLog) Append(term uint64, batch []byte, done func(error)) {
	most := l.MaxBatch()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(batch) > most {
		go done(partition.ErrTooLarge)
		return
	}
	commit := func() {
		l.mu.Lock()
		err := l.fail
		switch {
		case err != nil:
		case l.term != term:
			err = partition.ErrOtherTerm
		default:
			l.put(batch)
		}
		l.mu.Unlock()
		done(err)
	}
	if l.hold {
		l.held = append(l.held, commit)
		return
	}
	go commit()
}

// put stores a batch. mu is held.
func (l *memLog) put(batch []byte) {
	b := append([]byte(nil), batch...)
	binary.BigEndian.PutUint64(b, uint64(l.next))
	l.starts, l.bases = append(l.starts, len(l.bytes)), append(l.bases, l.next)
	l.bytes = append(l.bytes, b...)
	l.next += int64(binary.BigEndian.Uint32(b[lastDeltaAt:])) + 1
}

func (l *memLog) release() {
	l.mu.Lock()
	held := l.held
	l.held, l.hold = nil, false
	l.mu.Unlock()
	for _, commit := range held {
		commit()
	}
}

func (l *memLog) batches() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.bases)
}

func (l *memLog) heldCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

func (l *memLog) Verify(term uint64) error {
	l.mu.Lock()
	l.verifies++
	gate, err := l.gate, l.unsure
	if l.term != term {
		err = fmt.Errorf("term %d", l.term)
	}
	l.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return err
}

func (l *memLog) verifyCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.verifies
}

// set changes the log under its lock.
func (l *memLog) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// asked is a request and what became of it.
type asked struct {
	done chan struct{}
	resp kmsg.Response
	err  error
}

func ask(c *Coordinator, req kmsg.Request) *asked {
	a := &asked{done: make(chan struct{})}
	c.Do(group.Client{ID: "test", Host: "/127.0.0.1"}, req, settle(a))
	return a
}

func settle(a *asked) Done {
	return func(resp kmsg.Response, err error) {
		a.resp, a.err = resp, err
		close(a.done)
	}
}

func (a *asked) wait(t testing.TB) *asked {
	t.Helper()
	select {
	case <-a.done:
	case <-time.After(time.Minute):
		t.Fatal("no answer")
	}
	return a
}

func (a *asked) answered() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never:", what)
		}
	}
}

func options(l Log) Options {
	n := 0
	return Options{
		Log: l, Term: 1, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		Groups: group.Config{InitialRebalanceDelay: -1, NewMemberID: func(client string) string {
			n++
			return fmt.Sprintf("%s-%d", client, n)
		}}.WithDefaults(),
	}
}

// commit is a commit from outside of a group, of topic t, partition 0.
func commit(name string, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, name, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = "t"
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = offset
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

func fetch(name string) *kmsg.OffsetFetchRequest {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group = 7, name
	return req
}

// committed is the offset in a response to fetch; -1 for none.
func committed(t testing.TB, a *asked) int64 {
	t.Helper()
	if a.wait(t).err != nil {
		t.Fatal("offset fetch:", a.err)
	}
	resp := a.resp.(*kmsg.OffsetFetchResponse)
	if resp.ErrorCode != 0 {
		t.Fatal("offset fetch:", kerr.ErrorForCode(resp.ErrorCode))
	}
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			return p.Offset
		}
	}
	return -1
}

// commitCode is the error code in a response to commit.
func commitCode(t testing.TB, a *asked) error {
	t.Helper()
	if a.wait(t).err != nil {
		return a.err
	}
	return kerr.ErrorForCode(a.resp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode)
}

// compact takes batches out, as compaction does with those that have no record
// left. Offsets stay as they are.
func (l *memLog) compact(gone ...int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var (
		kept   []byte
		starts []int
		bases  []int64
	)
	for i := range l.starts {
		if slices.Contains(gone, i) {
			continue
		}
		to := len(l.bytes)
		if i+1 < len(l.starts) {
			to = l.starts[i+1]
		}
		starts, bases = append(starts, len(kept)), append(bases, l.bases[i])
		kept = append(kept, l.bytes[l.starts[i]:to]...)
	}
	l.bytes, l.starts, l.bases = kept, starts, bases
}
