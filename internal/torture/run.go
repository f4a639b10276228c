package torture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/torture/check"
	"github.com/raftsman/raftsman/internal/torture/history"
)

// Config says what to run.
type Config struct {
	Duration   time.Duration // of the faults; recovery and the final reads come on top
	Seed       uint64        // of every choice
	Partitions int
	Rate       int           // of batches a second, about, by all producers
	Nemesis    []string      // names of faults; empty: all that the target can do
	Recovery   time.Duration // how long the cluster may take to be well after the last fault
	// NemesisCommand is a fault of the user's own; see run.command.
	NemesisCommand string
	History        string         // a file that does not exist yet
	Header         history.Header // what is put into it
	Logger         *slog.Logger
	// FailFast ends the run at the first violation.
	FailFast bool
	// Progress is told how it goes once a second. It may be nil.
	Progress func(Progress)
}

// Progress is how it goes.
type Progress struct {
	Elapsed    time.Duration
	Phase      string // "faults", "recovery", "final reads", "comparison"
	Records    int64  // acknowledged
	Operations int64
	Faults     int64
	Fault      string // that is at work, or was last
	Violations int
}

// run is one run.
type run struct {
	Config
	target     Target
	hist       *history.Writer
	dialer     *dialer
	topic      string
	partitions int
	began      time.Time
	grace      context.Context // in which what was sent may end

	mu      sync.Mutex
	checker *check.Checker
	now     Progress
	pending map[int64]bool // appends under way
	enough  func()         // ends the faults
}

// Run runs the workload and the faults against a target, and returns the verdict.
// An error means that there is none.
func Run(ctx context.Context, cfg Config, t Target) (*check.Report, error) {
	r := &run{Config: cfg, target: t, partitions: cfg.Partitions, began: time.Now(), checker: check.New(), pending: make(map[int64]bool),
		dialer: &dialer{conns: make(map[net.Conn]bool)}}
	// A topic of its own: nothing else writes to it.
	r.topic = fmt.Sprintf("torture-%x-%x", cfg.Seed, r.began.Unix())
	faults, err := choose(r.faults(), cfg.Nemesis)
	if err != nil {
		return nil, err
	}
	if r.hist, err = history.New(cfg.History, cfg.Header, r.saw); err != nil {
		return nil, err
	}
	defer r.hist.Close() // again, after an error
	if err := r.all(ctx, faults); err != nil {
		return nil, err
	}
	if err := r.hist.Close(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checker.Finish(), nil
}

// saw checks events as they come.
func (r *run) saw(e history.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checker.Add(e)
	if r.FailFast && r.checker.Found() > 0 && r.enough != nil {
		r.enough()
	}
	switch {
	case e.Is == "" && e.Op == history.Fault:
		r.now.Faults++
		r.now.Fault = e.Text
	case e.Is == "" && e.Op == history.Produce:
		r.pending[e.ID] = true
	case e.Is != "":
		r.now.Operations++
		if r.pending[e.ID] && e.Is == history.OK {
			r.now.Records++
		}
		delete(r.pending, e.ID)
	}
}

// failed says that a violation ends the run.
func (r *run) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.FailFast && r.checker.Found() > 0
}

func (r *run) phase(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Phase = name
}

func (r *run) all(ctx context.Context, faults []fault) error {
	stopProgress := r.show()
	defer stopProgress()
	main, err := r.client("main")
	if err != nil {
		return err
	}
	defer main.close()
	r.phase("start")
	if err := r.until(ctx, 30*time.Second, func() error { return r.create(ctx, main, r.topic, int32(r.partitions)) }); err != nil {
		return fmt.Errorf("create topic %s: %w", r.topic, err)
	}

	working, stop := context.WithCancel(ctx)
	defer stop()
	grace, give := context.WithCancel(ctx)
	defer give()
	r.grace = grace
	wait := r.work(working)
	defer func() { stop(); give(); _ = wait() }()

	r.phase("faults")
	nemesis, over := context.WithTimeout(ctx, r.Duration)
	r.mu.Lock()
	r.enough = over
	r.mu.Unlock()
	err = r.nemesis(nemesis, faults)
	over()
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	if r.failed() {
		return nil
	}
	r.phase("recovery")
	r.recover(ctx, main)
	stop()
	timer := time.AfterFunc(30*time.Second, give) // what was sent ends by then
	err = wait()
	timer.Stop()
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	if r.failed() {
		return nil
	}
	r.phase("final reads")
	if err := r.finals(ctx); err != nil {
		return err
	}
	r.phase("comparison")
	if len(r.target.http()) == 0 {
		return nil
	}
	return r.verify(ctx)
}

// show calls Progress once a second, until it is stopped.
func (r *run) show() (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	tell := func() {
		r.mu.Lock()
		now := r.now
		now.Violations = r.checker.Found()
		r.mu.Unlock()
		now.Elapsed = time.Since(r.began)
		r.Progress(now)
	}
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				tell()
				return
			case <-tick.C:
				tell()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// work starts all clients. The function it returns waits for their end.
func (r *run) work(ctx context.Context) (wait func() error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
		n    uint64
	)
	start := func(name string, f func(context.Context, string, *rand.Rand) error) {
		n++
		rnd := rand.New(rand.NewPCG(r.Seed, n))
		wg.Go(func() {
			if err := f(ctx, name, rnd); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("client %s: %w", name, err))
			}
		})
	}
	for i := range producersEach {
		start(fmt.Sprint("plain", i), r.plain)
		start(fmt.Sprint("stubborn", i), r.stubborn)
		start(fmt.Sprint("franz", i), r.franz)
		start(fmt.Sprint("reader", i), r.reader)
		start(fmt.Sprint("member", i), r.member)
	}
	start("reader-more", r.reader)
	start("committer", r.committer)
	start("admin", r.admin)
	return func() error {
		wg.Wait()
		mu.Lock()
		defer mu.Unlock()
		return errors.Join(errs...)
	}
}

// producersEach is how many clients there are of most kinds.
const producersEach = 2

// pace waits for the next turn of one client; false: it is over.
func (r *run) pace(ctx context.Context, rnd *rand.Rand) bool {
	mean := time.Second * 3 * producersEach / time.Duration(r.Rate)
	return wait(ctx, time.Duration(rnd.Int64N(int64(2*mean))))
}

// pick chooses a partition.
func (r *run) pick(rnd *rand.Rand) partition {
	return partition{r.topic, int32(rnd.IntN(r.partitions))}
}

// until tries until it works or the time is over, and returns the last error.
func (r *run) until(ctx context.Context, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f()
		if err == nil || !wait(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// recover waits until every partition has a leader and all its replicas, and takes a
// record.
func (r *run) recover(ctx context.Context, c *client) {
	id := r.hist.Begin(history.Event{Op: history.Recover})
	w := writer{client: c}
	next := int32(0)
	err := r.until(ctx, r.Recovery, func() error {
		if err := r.target.died(); err != nil {
			return err
		}
		if len(r.target.http()) > 0 {
			if err := r.whole(ctx); err != nil {
				return err
			}
		}
		for ; next < int32(r.partitions); next++ {
			p, millis := partition{r.topic, next}, time.Now().UnixMilli()
			records, ids := w.begin(p, 1, millis)
			offset, is, err := w.append(ctx, p, -1, batch(nil, 0, millis, records...))
			w.end(ids, offset, is, err, false)
			if err != nil {
				return err
			}
		}
		return nil
	})
	is := history.OK
	if err != nil {
		is = history.Failed
	}
	if ctx.Err() == nil {
		r.hist.End(id, history.Event{Is: is, Text: text(err)})
	}
}

// finals reads all partitions from start to end.
func (r *run) finals(ctx context.Context) error {
	c, err := r.client("final")
	if err != nil {
		return err
	}
	defer c.close()
	for i := range r.partitions {
		read, cancel := context.WithTimeout(ctx, r.Recovery)
		err := c.final(read, partition{r.topic, int32(i)})
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			id := r.hist.Begin(history.Event{Op: history.Recover, Topic: r.topic, Partition: int32(i)})
			r.hist.End(id, history.Event{Is: history.Failed, Text: "can't be read to its end: " + text(err)})
		}
	}
	return nil
}

func (p Progress) String() string {
	s := fmt.Sprintf("%4.0fs %s: %d records acknowledged, %d operations, %d faults", p.Elapsed.Seconds(), p.Phase, p.Records, p.Operations, p.Faults)
	if p.Fault != "" {
		s += ", last " + p.Fault
	}
	if p.Violations > 0 {
		s += fmt.Sprintf(", %d VIOLATIONS", p.Violations)
	}
	return s
}
