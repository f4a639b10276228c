package discovery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Maker makes a first node's cluster, for Look.
type Maker interface {
	// Make makes one that nobody can join or use yet.
	Make(ctx context.Context) error
	// Open writes down that it is open: from then on a restart takes it for that.
	Open() error
	// Discard undoes Make, and Open. Nobody was let in.
	Discard() error
}

// LookOptions of Look.
type LookOptions struct {
	Options
	// Timing of the protocol; see DefaultTiming.
	Timing Timing
	// Only is the id of the cluster that the data directory belongs to; "" for a
	// new one.
	Only string
	// Maker makes a cluster if there is none; nil: none is made.
	Maker Maker
	// Pause is called between the steps of a first node, with the name of the next.
	// For tests. May be nil.
	Pause func(step string)
}

// Outcome of Look.
type Outcome struct {
	First bool  // this node has made the cluster
	Found Found // a member of it, otherwise
	ID    ID    // for Answer, with Seq
	Seq   uint64
}

// NobodyError says that nobody has answered.
type NobodyError struct {
	Group, Interface string
	Waited           time.Duration
	Only             string  // the cluster that was looked for, if only one would do
	Foreign          []Found // others that have answered
	Mistrusted       int     // messages that were signed with another secret, or not
	SendErr          error   // why nothing could be sent, if so
}

func (e *NobodyError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "no node answered on %s (interface %s) in %v", e.Group, e.Interface, e.Waited)
	if e.Only != "" {
		fmt.Fprintf(&s, ", for cluster %s, which the data directory belongs to", e.Only)
	}
	for _, f := range e.Foreign {
		fmt.Fprintf(&s, "; %s is a node of another cluster, %s", f.HTTP, f.ClusterID)
	}
	if e.SendErr != nil {
		fmt.Fprintf(&s, "; nothing could be sent: %v", e.SendErr)
	}
	if e.Mistrusted > 0 {
		fmt.Fprintf(&s, "; %d messages were not signed with the secret of --cluster-secret-file, or were signed though there is none here", e.Mistrusted)
	}
	return s.String()
}

// SeveralError says that there are several clusters of the name.
type SeveralError struct {
	Cluster string
	Found   []Found
}

func (e *SeveralError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "there are several clusters named %q here", e.Cluster)
	for _, f := range e.Found {
		fmt.Fprintf(&s, "; %s, through %s", f.ClusterID, f.HTTP)
	}
	return s.String()
}

const tellLooking = 20 * time.Second

// looker runs a Candidate.
type looker struct {
	opts       LookOptions
	c          *Candidate
	sock       *socket
	began      time.Time
	made       chan error // of a Make or Discard under way
	step       Step
	written    bool // by Maker.Open
	mistrusted int
	sendErr    error
	told       time.Duration // when it was said what is waited for
	toldSend   bool
	toldOther  bool
	outcome    Outcome
}

// Look looks for a cluster, or makes one, until it has one or ctx ends. Errors:
// *NobodyError, *SeveralError, and what the Maker says.
func Look(ctx context.Context, opts LookOptions) (Outcome, error) {
	opts.setDefaults()
	if opts.Pause == nil {
		opts.Pause = func(string) {}
	}
	count, err := newCounters(nil)
	if err != nil {
		return Outcome{}, err
	}
	sock, err := open(opts.Options, count)
	if err != nil {
		return Outcome{}, err
	}
	defer sock.close()
	l := &looker{opts: opts, sock: sock, began: time.Now(), made: make(chan error, 1)}
	l.c = NewCandidate(opts.Cluster, NewID(), opts.Maker != nil, opts.Only, opts.Timing, 0)
	opts.Logger.Info("looking for the cluster", "cluster", opts.Cluster, "group", opts.Group, "interface", sock.place.Interface, "address", sock.place.Addr.Addr(), "make", l.c.bootstrap)
	return l.run(ctx)
}

func (l *looker) now() time.Duration { return time.Since(l.began) }

func (l *looker) run(ctx context.Context) (Outcome, error) {
	tick := time.NewTicker(l.opts.Timing.Interval)
	defer tick.Stop()
	for {
		l.drain()
		l.stillLooking()
		if err := l.sock.send(l.c.Tick(l.now()), nil); err != nil {
			l.cantSend(err)
		} else {
			l.sendErr = nil
		}
		done, err := l.act(ctx)
		if err != nil || done {
			return l.outcome, errors.Join(err, l.leave(err))
		}
		select {
		case <-ctx.Done():
			return l.outcome, errors.Join(ctx.Err(), l.leave(ctx.Err()))
		case <-tick.C:
		case p := <-l.sock.packets:
			l.receive(p)
			l.more(ctx, tick)
		case err := <-l.made:
			if err := l.ended(err); err != nil {
				return l.outcome, err
			}
		}
	}
}

// more receives what comes until the next tick.
func (l *looker) more(ctx context.Context, tick *time.Ticker) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			return
		case p := <-l.sock.packets:
			l.receive(p)
		}
	}
}

// stillLooking says now and then what it waits for.
func (l *looker) stillLooking() {
	if l.now()-l.told < tellLooking {
		return
	}
	l.told = l.now()
	l.opts.Logger.Info("still looking for the cluster", "cluster", l.opts.Cluster, "as", l.c.state(), "others_that_look", l.c.Others(), "stands_back_for_somebody", l.c.granted != "")
}

// drain receives what is there already.
func (l *looker) drain() {
	for {
		select {
		case p := <-l.sock.packets:
			l.receive(p)
		default:
			return
		}
	}
}

func (l *looker) receive(p received) {
	if !p.mistrusted {
		l.c.Receive(l.now(), p.m)
		return
	}
	l.mistrusted++
	if l.c.bootstrap {
		l.c.Disturbed(l.now())
	}
	if !l.toldOther {
		l.toldOther = true
		l.opts.Logger.Warn("somebody looks for a cluster of this name with another secret: no cluster is made while that goes on; give all nodes the same --cluster-secret-file", "from", p.from)
	}
}

func (l *looker) cantSend(err error) {
	l.c.Disturbed(l.now())
	l.sendErr = err
	if !l.toldSend {
		l.toldSend = true
		l.opts.Logger.Warn("can't ask on the network, trying on", "group", l.opts.Group, "interface", l.sock.place.Interface, "err", err)
	}
}

// act does the next step.
func (l *looker) act(ctx context.Context) (done bool, err error) {
	switch step := l.c.Next(l.now()); step {
	case Make, Discard:
		l.opts.Pause("make")
		l.step = step
		go l.begin(ctx, step)
	case Open:
		return l.open()
	case Join:
		l.outcome = Outcome{Found: l.c.Found()[0]}
		return true, nil
	case Several:
		return false, &SeveralError{l.opts.Cluster, l.c.Found()}
	case GiveUp:
		return false, l.nobody()
	case Wait:
		// One who makes none does not wait for a network to come.
		if !l.c.bootstrap && l.sendErr != nil && l.now() > l.opts.Timing.Settle {
			return false, l.nobody()
		}
	}
	return false, nil
}

func (l *looker) nobody() error {
	return &NobodyError{
		Group: l.opts.Group, Interface: l.sock.place.Interface, Waited: l.now().Round(time.Second), Only: l.opts.Only,
		Foreign: l.c.Foreign(), Mistrusted: l.mistrusted, SendErr: l.sendErr,
	}
}

// begin runs what takes its time beside the talk.
func (l *looker) begin(ctx context.Context, step Step) {
	if step == Make {
		l.opts.Logger.Info("nobody has a cluster, and all others stand back: making one", "cluster", l.opts.Cluster)
		l.made <- l.opts.Maker.Make(ctx)
		return
	}
	l.opts.Logger.Info("somebody else was first: what was made is discarded", "cluster", l.opts.Cluster)
	l.made <- l.opts.Maker.Discard()
}

func (l *looker) ended(err error) error {
	l.opts.Pause("made")
	if err != nil {
		l.c.Failed()
		return err
	}
	if l.step == Make {
		l.c.Made(l.now())
	} else {
		l.written = false
		l.c.Discarded()
	}
	l.step = Wait
	return nil
}

// open opens the cluster if that is still right when it was written down: that may
// have taken any time.
func (l *looker) open() (done bool, err error) {
	if !l.written {
		l.opts.Pause("open")
		if err := l.opts.Maker.Open(); err != nil {
			return false, err
		}
		l.written = true
		l.opts.Pause("opened")
		l.drain()
	}
	l.outcome.First = l.c.Opened(l.now())
	return l.outcome.First, nil
}

// leave ends what is under way, and undoes what was made when err is set.
func (l *looker) leave(err error) error {
	l.outcome.ID, l.outcome.Seq = l.c.id, l.c.seq
	if err == nil {
		return nil
	}
	if l.step != Wait {
		made := <-l.made
		if l.step == Discard || made != nil {
			return made
		}
		return l.opts.Maker.Discard()
	}
	if l.c.made {
		return l.opts.Maker.Discard()
	}
	return nil
}
