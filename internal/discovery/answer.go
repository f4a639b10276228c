package discovery

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	announceEvery = 10 * time.Second       // a member says by itself that it is there
	reopenAfter   = 5 * time.Second        // a network that failed is tried again
	answerGap     = 200 * time.Millisecond // between two answers to one address
	answerRate    = 50                     // answers a second, to all together
	maxAsking     = 1024                   // addresses that are kept in mind
	heardFor      = time.Minute            // that another cluster counts as there
	tellAgain     = 5 * time.Minute        // that another cluster is there
	maxOthers     = 16
)

// Other is another cluster of the same name that was heard.
type Other struct {
	ClusterID string    `json:"cluster_id"`
	HTTP      string    `json:"http"` // of one of its nodes
	Seen      time.Time `json:"seen"`
	told      time.Time
}

// Answerer is a member's side: it answers who looks for the cluster, says now and
// then that it is there, and notices other clusters of its name.
type Answerer struct {
	opts     Options
	counters *counters
	id       ID
	interval time.Duration

	mu        sync.Mutex
	seq       uint64
	clusterID string // "" until Serve
	http      string
	others    map[string]*Other
	serving   chan struct{}

	// Of Run.
	answered map[netip.Addr]time.Time
	tokens   float64
	filled   time.Time
}

// NewAnswerer goes on where Look has ended; id and seq are new ones for a node that
// did not have to look.
func NewAnswerer(opts Options, id ID, seq uint64, interval time.Duration) (*Answerer, error) {
	opts.setDefaults()
	if id == "" {
		id = NewID()
	}
	count, err := newCounters(opts.Registerer)
	if err != nil {
		return nil, err
	}
	return &Answerer{
		opts: opts, counters: count, id: id, seq: seq, interval: interval, others: make(map[string]*Other),
		serving: make(chan struct{}), answered: make(map[netip.Addr]time.Time), tokens: answerRate,
	}, nil
}

// Serve says which cluster to answer for and at which HTTP address; before it is
// called others are only told to wait. It is called once.
func (a *Answerer) Serve(clusterID, http string) {
	a.mu.Lock()
	a.clusterID, a.http = clusterID, http
	a.mu.Unlock()
	close(a.serving)
}

// Others are the other clusters of the name that were heard in the last minute.
func (a *Answerer) Others() []Other {
	a.mu.Lock()
	defer a.mu.Unlock()
	others := []Other{}
	for _, o := range a.others {
		others = append(others, *o)
	}
	slices.SortFunc(others, func(a, b Other) int { return strings.Compare(a.ClusterID, b.ClusterID) })
	return others
}

// Run answers until ctx ends. A network that is away is waited for.
func (a *Answerer) Run(ctx context.Context) {
	told := false
	for ctx.Err() == nil {
		sock, err := open(a.opts, a.counters)
		if err == nil {
			err = a.serve(ctx, sock)
			sock.close()
		}
		if err != nil && !told {
			told = true
			a.opts.Logger.Warn("can't be found on the network, trying on", "group", a.opts.Group, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(reopenAfter):
		}
	}
}

// serve returns when ctx has ended, or when it can't send.
func (a *Answerer) serve(ctx context.Context, sock *socket) error {
	serving := a.serving
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-serving:
			serving = nil
			next.Reset(0)
		case <-next.C:
			a.forget(time.Now())
			m := a.message()
			if err := sock.send(m, nil); err != nil {
				return err
			}
			wait := a.interval
			if m.State == Member {
				wait = announceEvery/2 + rand.N(announceEvery)
			}
			next.Reset(wait)
		case p := <-sock.packets:
			a.receive(sock, p)
		}
	}
}

func (a *Answerer) message() Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seq++
	m := Message{Cluster: a.opts.Cluster, From: a.id, Seq: a.seq, State: First}
	if a.clusterID != "" {
		m.State, m.ClusterID, m.HTTP = Member, a.clusterID, a.http
	}
	return m
}

func (a *Answerer) receive(sock *socket, p received) {
	switch {
	case p.m.From == a.id:
	case p.m.State == Member:
		if !p.mistrusted {
			a.note(p.m, time.Now())
		}
	// One with another secret is answered too: it can't believe that, and learns that
	// there is somebody.
	case !sock.near(p.from) || !a.mayAnswer(p.from.AddrPort().Addr().Unmap(), time.Now()):
		a.counters.answers.WithLabelValues("held back").Inc()
	default:
		m := a.message()
		if m.State != Member {
			return // the group is told often enough
		}
		if err := sock.send(m, p.from); err == nil {
			a.counters.answers.WithLabelValues("sent").Inc()
		}
	}
}

// mayAnswer bounds the answers to one address and to all.
func (a *Answerer) mayAnswer(to netip.Addr, now time.Time) bool {
	a.tokens = min(answerRate, a.tokens+now.Sub(a.filled).Seconds()*answerRate)
	a.filled = now
	last, known := a.answered[to]
	if a.tokens < 1 || known && now.Sub(last) < answerGap || !known && len(a.answered) >= maxAsking {
		return false
	}
	a.tokens--
	a.answered[to] = now
	return true
}

// forget drops what is old.
func (a *Answerer) forget(now time.Time) {
	for to, at := range a.answered {
		if now.Sub(at) > answerGap {
			delete(a.answered, to)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, o := range a.others {
		if now.Sub(o.Seen) > heardFor {
			delete(a.others, id)
		}
	}
	a.counters.others.Set(float64(len(a.others)))
}

// note takes down that a member of another cluster of the name was heard.
func (a *Answerer) note(m Message, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.clusterID == "" || m.ClusterID == a.clusterID {
		return
	}
	o := a.others[m.ClusterID]
	if o == nil {
		if len(a.others) >= maxOthers {
			return
		}
		o = &Other{ClusterID: m.ClusterID}
		a.others[m.ClusterID] = o
	}
	o.HTTP, o.Seen = m.HTTP, now
	a.counters.others.Set(float64(len(a.others)))
	if now.Sub(o.told) < tellAgain {
		return
	}
	o.told = now
	a.opts.Logger.Error("another cluster of the same name is on this network: they are two and stay two; keep one, and start the nodes of the other with empty data directories, or give it another --cluster name",
		"cluster", a.opts.Cluster, "this", a.clusterID, "other", m.ClusterID, "other_node", m.HTTP)
}
