package wal

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/vfs"
)

// book is what an observer outside of the nodes has seen of one group: votes
// that left a node, leaders that spoke, entries that were applied.
type book struct {
	mu      sync.Mutex
	votes   map[string]string // "node term" → candidate
	leaders map[uint64]string // term → node
	applied map[uint64]string // index → "term value"
	acked   map[string]bool
	cast    map[string]bool // "node term candidate": votes that raft began to store
	wrong   []string
	granted int
}

func newBook() *book {
	return &book{votes: make(map[string]string), leaders: make(map[uint64]string), applied: make(map[uint64]string), acked: make(map[string]bool), cast: make(map[string]bool)}
}

func (b *book) wrongLocked(format string, args ...any) {
	b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
}

func (b *book) vote(node string, term uint64, candidate string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := fmt.Sprint(node, " ", term)
	if was, ok := b.votes[key]; ok && was != candidate {
		b.wrongLocked("node %s voted for %s and for %s in term %d", node, was, candidate, term)
	}
	b.votes[key] = candidate
	b.granted++
}

func (b *book) leads(node string, term uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if was, ok := b.leaders[term]; ok && was != node {
		b.wrongLocked("nodes %s and %s both lead in term %d", was, node, term)
	}
	b.leaders[term] = node
	if was, ok := b.votes[fmt.Sprint(node, " ", term)]; ok && was != node {
		b.wrongLocked("node %s leads in term %d and voted for %s", node, term, was)
	}
}

func (b *book) apply(node string, l *raft.Log) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := fmt.Sprint(l.Term, " ", string(l.Data))
	if was, ok := b.applied[l.Index]; ok && was != v {
		b.wrongLocked("node %s applied %q at %d, where %q had been applied", node, v, l.Index, was)
	}
	b.applied[l.Index] = v
}

// watched is a node's transport for one group that keeps the book. What a dead
// node says reaches nobody.
type watched struct {
	*raft.InmemTransport
	book *book
	node *voter
	out  chan raft.RPC
	end  chan struct{}
}

func (w *watched) Consumer() <-chan raft.RPC { return w.out }

func (w *watched) pump() {
	for {
		var rpc raft.RPC
		select {
		case rpc = <-w.InmemTransport.Consumer():
		case <-w.end:
			return
		}
		switch req := rpc.Command.(type) {
		case *raft.AppendEntriesRequest:
			w.book.leads(string(req.RPCHeader.Addr), req.Term)
		case *raft.RequestVoteRequest:
			answer, to := make(chan raft.RPCResponse, 1), rpc.RespChan
			rpc.RespChan = answer
			go w.voted(req, answer, to)
		}
		select {
		case w.out <- rpc:
		case <-w.end:
			return
		}
	}
}

func (w *watched) voted(req *raft.RequestVoteRequest, answer <-chan raft.RPCResponse, to chan<- raft.RPCResponse) {
	select {
	case resp := <-answer:
		if w.node.dead.Load() {
			return
		}
		if v, ok := resp.Response.(*raft.RequestVoteResponse); ok && v.Granted {
			w.book.vote(string(w.LocalAddr()), req.Term, string(req.RPCHeader.Addr))
		}
		to <- resp
	case <-w.end:
	}
}

// mortal is a group's store on a disk that may crash. raft panics when it can't
// store its term: its goroutine ends there instead, as everything of the node
// does. It panics too when it can't read an entry; they are all read at the
// start, and kept.
type mortal struct {
	*Group
	node *voter
	book *book

	mu      sync.Mutex
	term    uint64 // of the vote that is being cast
	entries map[uint64]*raft.Log
}

// newMortal reads all entries, and checks that the vote is one that raft cast.
func newMortal(g *Group, node *voter, b *book) (*mortal, error) {
	m := &mortal{Group: g, node: node, book: b, entries: make(map[uint64]*raft.Log)}
	term, err := g.GetUint64([]byte(keyVoteTerm))
	candidate, _ := g.Get([]byte(keyVoteCandidate))
	b.mu.Lock()
	cast := b.cast[fmt.Sprint(node.name, " ", term, " ", string(candidate))]
	b.mu.Unlock()
	if err == nil && !cast {
		return nil, fmt.Errorf("the log of node %s holds a vote in term %d for %q, which was never cast", node.name, term, candidate)
	}
	first, err1 := g.FirstIndex()
	last, err2 := g.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	for i := first; i > 0 && i <= last; i++ {
		l := new(raft.Log)
		if err := g.GetLog(i, l); err != nil {
			return nil, err
		}
		m.entries[i] = l
	}
	return m, nil
}

func (m *mortal) GetLog(i uint64, l *raft.Log) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[i]
	if !ok {
		return raft.ErrLogNotFound
	}
	*l = *e
	return nil
}

func (m *mortal) StoreLogs(logs []*raft.Log) error {
	if err := m.note(m.Group.StoreLogs(logs)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range logs {
		c := *l
		m.entries[l.Index] = &c
	}
	return nil
}

func (m *mortal) DeleteRange(from, to uint64) error {
	if err := m.note(m.Group.DeleteRange(from, to)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := from; i <= to; i++ {
		delete(m.entries, i)
	}
	return nil
}

func (m *mortal) note(err error) error {
	if err != nil && err.Error() != errNotFound.Error() && !errors.Is(err, raft.ErrLogNotFound) {
		if !errors.Is(err, vfs.ErrCrashed) && !errors.Is(err, ErrClosed) {
			m.node.strange.Store(&err)
		}
		m.node.dead.Store(true)
	}
	return err
}

func (m *mortal) alive(err error) error {
	if m.note(err); m.node.dead.Load() {
		runtime.Goexit()
	}
	return err
}

func (m *mortal) StoreLog(l *raft.Log) error { return m.StoreLogs([]*raft.Log{l}) }

// Set and SetUint64 note the votes that raft casts.
func (m *mortal) Set(k, v []byte) error {
	if string(k) == keyVoteCandidate {
		m.book.mu.Lock()
		m.book.cast[fmt.Sprint(m.node.name, " ", m.term, " ", string(v))] = true
		m.book.mu.Unlock()
	}
	return m.alive(m.Group.Set(k, v))
}

func (m *mortal) SetUint64(k []byte, v uint64) error {
	if string(k) == keyVoteTerm {
		m.term = v
	}
	return m.alive(m.Group.SetUint64(k, v))
}

func (m *mortal) Get(k []byte) ([]byte, error) {
	v, err := m.Group.Get(k)
	return v, m.alive(err)
}

func (m *mortal) GetUint64(k []byte) (uint64, error) {
	v, err := m.Group.GetUint64(k)
	return v, m.alive(err)
}

// bookFSM notes what is applied.
type bookFSM struct {
	book *book
	node string
}

func (f bookFSM) Apply(l *raft.Log) any {
	f.book.apply(f.node, l)
	return nil
}
func (bookFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("no snapshots here") }
func (bookFSM) Restore(io.ReadCloser) error         { return errors.New("no snapshots here") }

const voteGroups = 3 // on one log: their votes share batches

// voter is one node's life: from a start to a crash.
type voter struct {
	name    string
	log     *Log
	rafts   [voteGroups]*raft.Raft
	trans   [voteGroups]*watched
	dead    atomic.Bool
	strange atomic.Pointer[error]
}

// electorate is three nodes, their disks and the books.
type electorate struct {
	t      *testing.T
	r      *rand.Rand
	disks  [3]*vfs.Mem
	nodes  [3]*voter
	books  [voteGroups]*book
	values int
	deaths int
}

// close ends all lives; the bubble's goroutines have to be gone at its end.
func (e *electorate) close() {
	for i := range e.nodes {
		e.end(i)
	}
}

func address(i int) string { return fmt.Sprint("n", i) }

// start begins a node's life on its disk. The disk may crash meanwhile.
func (e *electorate) start(i int) error {
	opts := small(e.disks[i])
	opts.FileSize, opts.SizeLimit, opts.TailBytes = 32<<10, 128<<10, int64(e.r.IntN(2)*2-1)<<12
	l, err := Open(opts)
	if err != nil {
		return err
	}
	v := &voter{name: address(i), log: l}
	for g := range e.books {
		_, in := raft.NewInmemTransportWithTimeout(raft.ServerAddress(v.name), 30*time.Millisecond)
		w := &watched{InmemTransport: in, book: e.books[g], node: v, out: make(chan raft.RPC, 16), end: make(chan struct{})}
		v.trans[g] = w
		go w.pump()
	}
	e.nodes[i] = v
	for g := range e.books {
		made := make(chan error, 1)
		go func() { // it may end half way, see mortal
			err := vfs.ErrCrashed
			defer func() { made <- err }()
			v.rafts[g], err = e.raft(v, g)
		}()
		if err := <-made; err != nil {
			return err
		}
	}
	return nil
}

func (e *electorate) raft(v *voter, g int) (*raft.Raft, error) {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(v.name)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 50*time.Millisecond, 50*time.Millisecond, 40*time.Millisecond
	c.CommitTimeout = 5 * time.Millisecond
	c.SnapshotThreshold, c.SnapshotInterval = 1<<60, 24*time.Hour
	c.Logger = hclog.NewNullLogger()
	c.PreVoteDisabled = e.r.IntN(2) == 0 // more elections
	store, err := newMortal(v.log.Group(uint64(g+1)), v, e.books[g])
	if err != nil {
		return nil, err
	}
	snaps := raft.NewInmemSnapshotStore()
	has, err := raft.HasExistingState(store, store, snaps)
	if err == nil && !has {
		var conf raft.Configuration
		for i := range e.nodes {
			conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(address(i)), Address: raft.ServerAddress(address(i))})
		}
		err = raft.BootstrapCluster(c, store, store, snaps, v.trans[g], conf)
	}
	if err != nil {
		return nil, err
	}
	return raft.NewRaft(c, bookFSM{e.books[g], v.name}, store, store, snaps, v.trans[g])
}

// end ends a node's life.
func (e *electorate) end(i int) {
	v := e.nodes[i]
	if v == nil {
		return
	}
	e.nodes[i] = nil
	v.dead.Store(true)
	for g, w := range v.trans {
		close(w.end)
		w.DisconnectAll()
		for j := range e.nodes {
			if e.nodes[j] != nil {
				e.nodes[j].trans[g].Disconnect(raft.ServerAddress(v.name))
			}
		}
	}
	e.disks[i].ArmCrash(1)
	for _, r := range v.rafts {
		if r != nil {
			_ = r.Shutdown().Error()
		}
	}
	_ = v.log.Close()
	if err := v.strange.Load(); err != nil {
		e.t.Errorf("the log of %s failed: %v", v.name, *err)
	}
}

// connect lets all living nodes hear each other, or two of them not.
func (e *electorate) connect(cut int) {
	for i, a := range e.nodes {
		for j, b := range e.nodes {
			if i == j || a == nil || b == nil {
				continue
			}
			for g := range e.books {
				if i == cut || j == cut {
					a.trans[g].Disconnect(raft.ServerAddress(b.name))
				} else {
					a.trans[g].Connect(raft.ServerAddress(b.name), b.trans[g].InmemTransport)
				}
			}
		}
	}
}

// revive starts a node again after its disk has crashed, however often that
// crashes while it starts.
func (e *electorate) revive(i int) {
	for {
		e.end(i)
		e.disks[i].Crash(e.r)
		e.deaths++
		if e.r.IntN(4) == 0 {
			e.disks[i].ArmCrash(1 + e.r.Int64N(15))
		}
		err := e.start(i)
		if err == nil {
			return
		}
		if !errors.Is(err, vfs.ErrCrashed) {
			e.t.Fatalf("start node %d: %v", i, err)
		}
	}
}

// propose proposes a value to whoever leads a group, and notes it if it is
// acknowledged.
func (e *electorate) propose(g int) bool { return e.proposal(g)() }

// proposal is propose for a goroutine of its own: it may hang on a leader that
// died while the electorate goes on.
func (e *electorate) proposal(g int) func() bool {
	e.values++
	value, nodes, b := fmt.Sprint("v", e.values), e.nodes, e.books[g]
	return func() bool {
		for _, v := range nodes {
			if v == nil || v.rafts[g].State() != raft.Leader {
				continue
			}
			if v.rafts[g].Apply([]byte(value), 20*time.Millisecond).Error() == nil {
				b.mu.Lock()
				b.acked[value] = true
				b.mu.Unlock()
				return true
			}
		}
		return false
	}
}

// stir lets the nodes run for a while, with proposals, isolated nodes and
// leaders that hand over.
func (e *electorate) stir() {
	for range 6 {
		switch e.r.IntN(4) {
		case 0:
			e.connect(e.r.IntN(3))
		case 1:
			e.connect(-1)
		case 2:
			// No LeadershipTransfer: one that ends with the leadership leaves a
			// goroutine of raft's behind, for which synctest waits.
			e.connect(e.r.IntN(3))
		default:
			done, propose := make(chan bool), e.proposal(e.r.IntN(voteGroups))
			go func() { defer close(done); propose() }()
			select {
			case <-done:
			case <-time.After(time.Second): // its leader died
			}
		}
		<-time.After(time.Duration(e.r.IntN(60)) * time.Millisecond)
	}
}

// settle waits until each group has a leader that takes a value, and checks what
// was seen so far.
func (e *electorate) settle(what string) {
	e.t.Helper()
	for i, v := range e.nodes {
		e.disks[i].ArmCrash(1 << 40)
		if v.dead.Load() || e.disks[i].Crashed() {
			e.revive(i)
			e.disks[i].ArmCrash(1 << 40)
		}
	}
	for i, v := range e.nodes { // a start may have ended a life right away
		for v.dead.Load() || e.disks[i].Crashed() {
			e.revive(i)
			e.disks[i].ArmCrash(1 << 40)
			v = e.nodes[i]
		}
	}
	e.connect(-1)
	for g, b := range e.books {
		deadline := time.Now().Add(time.Minute) // of the bubble's clock
		for !e.propose(g) {
			if time.Now().After(deadline) {
				e.t.Fatalf("%s: group %d has no leader for a minute", what, g)
			}
			<-time.After(5 * time.Millisecond)
		}
		b.mu.Lock()
		there := make(map[string]bool, len(b.applied))
		for _, v := range b.applied {
			var term uint64
			var value string
			if _, err := fmt.Sscan(v, &term, &value); err == nil {
				there[value] = true
			}
		}
		for value := range b.acked {
			if !there[value] {
				b.wrongLocked("acknowledged value %s is in no log", value)
			}
		}
		wrong := b.wrong
		b.mu.Unlock()
		if len(wrong) > 0 {
			e.t.Fatalf("%s: group %d: %v", what, g, wrong)
		}
	}
}

// freshRequests empties the pool of requests: a channel must not wander between
// bubbles.
func freshRequests() {
	requests = sync.Pool{New: requests.New}
}

// TestVotesThroughCrashes runs raft groups of three nodes over one log per node,
// on disks that lose power at random writes of elections. Seen from outside, no
// node ever gives two votes in a term, no term has two leaders, no two nodes
// apply different entries at one index, and nothing acknowledged is missing.
// WAL_SEED and WAL_CASES as for TestCrash.
func TestVotesThroughCrashes(t *testing.T) {
	seed, n := seeds(t, 60)
	if testing.Short() {
		n = 4
	}
	var deaths, votes, leaders, values int
	for s := seed; s < seed+uint64(n) && !t.Failed(); s++ {
		synctest.Test(t, func(t *testing.T) {
			freshRequests()
			e := &electorate{t: t, r: rand.New(rand.NewPCG(s, 21))}
			t.Cleanup(func() {
				e.close()
				freshRequests()
			})
			for g := range e.books {
				e.books[g] = newBook()
			}
			for i := range e.disks {
				e.disks[i] = newMem(t)
				must(t, e.start(i))
			}
			for round := range 40 {
				e.settle(fmt.Sprintf("WAL_SEED=%d, round %d", s, round))
				for i := range e.disks {
					if e.r.IntN(3) > 0 {
						e.disks[i].ArmCrash(1 + e.r.Int64N(14))
					}
				}
				e.stir()
			}
			e.settle(fmt.Sprintf("WAL_SEED=%d, at the end", s))
			for _, b := range e.books {
				b.mu.Lock()
				votes, leaders, values = votes+b.granted, leaders+len(b.leaders), values+len(b.acked)
				b.mu.Unlock()
			}
			deaths += e.deaths
		})
	}
	t.Logf("WAL_SEED=%d, %d cases: %d crashes, %d votes left a node, %d terms had a leader, %d values acknowledged", seed, n, deaths, votes, leaders, values)
	if deaths < 20*n || votes < 20*n {
		t.Error("hardly anything happened")
	}
}
