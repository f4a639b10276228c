package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/group"
)

// Options of a coordinator. All but Metrics and MaxWaiting are needed.
type Options struct {
	Log    Log
	Term   uint64 // of the replica's leadership
	Groups group.Config
	Now    func() time.Time
	Logger *slog.Logger
	// Metrics count what coordinators do. Default: nobody sees them.
	Metrics *Metrics
	// MaxWaiting bounds the requests that are not answered, joins that wait for
	// others included; more are asked to come back. Default 20,000.
	MaxWaiting int
}

// Done is called once, on any goroutine, with the response or with a *kerr.Error
// that says why this coordinator has none. It must not block.
type Done func(resp kmsg.Response, err error)

// Coordinator coordinates the groups of one partition for one term.
type Coordinator struct {
	opts Options
	log  *slog.Logger
	wake chan struct{} // something is in the fields below

	mu       sync.Mutex
	state    state
	waiting  int // requests that are not answered
	calls    []*call
	removed  []string // topics
	groups   group.Config
	altered  bool // groups is news to the machine
	bequests []bequest
	left     []group.Sessions // of the last machine
	leftAt   time.Time
	verified []verdict
	flights  []*flight // batches on their way, in order
}

type state int

const (
	loading state = iota
	serving
	over
)

var stateNames = [...]string{"loading", "serving", "over"}

// call is a request that is not answered yet.
type call struct {
	client group.Client
	req    kmsg.Request
	done   Done
}

// New makes a coordinator; nothing happens before Run.
func New(opts Options) *Coordinator {
	if opts.MaxWaiting == 0 {
		opts.MaxWaiting = 20_000
	}
	if opts.Metrics == nil {
		opts.Metrics, _ = NewMetrics(nil) // without a registerer nothing fails
	}
	return &Coordinator{opts: opts, log: opts.Logger, wake: make(chan struct{}, 1), groups: opts.Groups}
}

// Do takes a request that group.Machine.Handle understands. The request belongs
// to the coordinator until done is called. Do does not block, but may call done.
func (c *Coordinator) Do(client group.Client, req kmsg.Request, done Done) {
	if err := c.enqueue(&call{client, req, done}); err != nil {
		done(nil, err)
	}
}

func (c *Coordinator) enqueue(x *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == over:
		return kerr.NotCoordinator
	case c.state == loading, c.waiting >= c.opts.MaxWaiting:
		return kerr.CoordinatorLoadInProgress
	}
	c.waiting++
	c.calls = append(c.calls, x)
	c.poke()
	return nil
}

// RemoveTopic has the groups forget a topic that was deleted.
func (c *Coordinator) RemoveTopic(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != over {
		c.removed = append(c.removed, topic)
		c.poke()
	}
}

// bequest is what another coordinator knew of sessions, and when that was told.
type bequest struct {
	sessions []group.Sessions
	at       time.Time
}

// maxBequests bounds those that wait for the machine.
const maxBequests = 100

// Inherit tells what the partition's last coordinator knew of its members' sessions
// when it ended, a moment ago.
func (c *Coordinator) Inherit(sessions []group.Sessions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != over && len(c.bequests) < maxBequests {
		c.bequests = append(c.bequests, bequest{sessions, c.opts.Now()})
		c.poke()
	}
}

// Sessions is what the coordinator knew of its members' sessions when it ended, and
// how long ago that was. Call it when Run has returned.
func (c *Coordinator) Sessions() (sessions []group.Sessions, ago time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left, c.opts.Now().Sub(c.leftAt)
}

// Configure changes the groups' configuration, which must be valid.
func (c *Coordinator) Configure(groups group.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups, c.altered = groups, true
	c.poke()
}

func (c *Coordinator) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// answer settles a call.
func (c *Coordinator) answer(x *call, resp kmsg.Response, err error) {
	c.mu.Lock()
	if c.waiting--; c.waiting < 0 {
		c.mu.Unlock()
		panic("BUG: a group request was answered twice")
	}
	c.mu.Unlock()
	x.done(resp, err)
}

// reloadDelay is how long a log that can't be read is left alone.
const reloadDelay = time.Second

// Run coordinates until ctx ends or the term is over, answers all that waits with
// NOT_COORDINATOR, and returns when nothing runs for the coordinator any more.
func (c *Coordinator) Run(ctx context.Context) {
	c.opts.Metrics.enter(over, loading)
	defer c.enter(over)
	for ctx.Err() == nil {
		m, err := c.load(ctx)
		switch {
		case errors.Is(err, errTermOver) || ctx.Err() != nil:
			return
		case err != nil:
			c.log.Error("the groups of a partition can't be loaded from its log, trying again; until then their members wait", "err", err)
			select {
			case <-time.After(reloadDelay):
			case <-ctx.Done():
			}
			continue
		}
		c.enter(serving)
		t := newTerm(c, m)
		t.serve(ctx)
		if _, _, leads := c.opts.Log.Serves(c.opts.Term); !leads {
			return
		}
		c.enter(loading)
	}
}

// enter changes the state. What was queued for the last machine is refused.
func (c *Coordinator) enter(s state) {
	c.mu.Lock()
	c.opts.Metrics.enter(c.state, s)
	c.state = s
	calls := c.calls
	c.calls = nil
	c.mu.Unlock()
	for _, x := range calls {
		c.answer(x, nil, kerr.NotCoordinator)
	}
}
