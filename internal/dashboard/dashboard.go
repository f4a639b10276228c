package dashboard

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options of a Dashboard. Node, Look and Winners are required.
type Options struct {
	// Node is the number of the node that serves the page.
	Node func() int32
	// Version is what the node runs.
	Version string
	// Look returns the cluster as the node sees it. It must not block.
	Look func() Look
	// Changed returns a channel that is closed when something may have changed that
	// Look shows. Default: nothing is known before the next tick.
	Changed func() <-chan struct{}
	// Winners are the latest that the node has seen, in any order.
	Winners func() []Win
	// Brokers are the Kafka addresses of nodes. Default: none, and no page shows
	// offsets, groups or records.
	Brokers func() []string
	// Known says whether the node may be called by a host's name, which is in small
	// letters. Default: by none but localhost, and by addresses.
	Known func(host string) bool
	// Gatherer holds the node's metrics. Default: nothing is measured.
	Gatherer prometheus.Gatherer
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Logger hears of what failed. Default: nowhere.
	Logger *slog.Logger
}

// Dashboard serves the page and what it shows.
type Dashboard struct {
	opts   Options
	mux    *http.ServeMux
	files  map[string]file
	page   string // a digest of the files
	client *http.Client
	kafka  *kafkaSide

	own        sync.Mutex // guards the next two
	ownFigures Figures
	ownAt      time.Time

	hub hub
}

// New returns a dashboard that shows something once Run is called.
func New(opts Options) (*Dashboard, error) {
	if opts.Node == nil || opts.Look == nil || opts.Winners == nil {
		return nil, errors.New("dashboard: Node, Look or Winners is not set")
	}
	if opts.Changed == nil {
		opts.Changed = func() <-chan struct{} { return nil }
	}
	if opts.Brokers == nil {
		opts.Brokers = func() []string { return nil }
	}
	if opts.Known == nil {
		opts.Known = func(string) bool { return false }
	}
	if opts.Gatherer == nil {
		opts.Gatherer = prometheus.NewRegistry()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	files, page, err := staticFiles()
	if err != nil {
		return nil, err
	}
	d := &Dashboard{
		opts: opts, files: files, page: page, kafka: newKafkaSide(opts.Brokers, opts.Now),
		client: &http.Client{
			Transport: &http.Transport{
				DialContext: (&net.Dialer{Timeout: pollTimeout}).DialContext, MaxIdleConnsPerHost: 1, IdleConnTimeout: 10 * time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		hub: hub{watchers: make(map[*watcher]struct{}), wake: make(chan struct{}, 1), done: make(chan struct{})},
	}
	d.mux = d.routes()
	return d, nil
}

// ServeHTTP implements http.Handler.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.mux.ServeHTTP(w, r) }

// Run makes the state for those who watch, until ctx ends: then they are let go.
// It is called once.
func (d *Dashboard) Run(ctx context.Context) {
	defer d.client.CloseIdleConnections()
	defer d.kafka.close()
	defer d.hub.close()
	for d.hub.awaited(ctx) {
		d.show(ctx)
		d.client.CloseIdleConnections()
	}
}

const (
	// tickEvery is the time between messages when nothing is known to have changed.
	tickEvery = time.Second
	leastTick = 250 * time.Millisecond
	mostTick  = 2500 * time.Millisecond
	// share of the time that may be spent on messages: one in so many, until they
	// would be more than mostTick apart.
	share = 20
)

// pause is the least time from one message to the next.
func pause(took time.Duration) time.Duration { return min(max(leastTick, share*took), mostTick) }

// show makes messages as long as somebody watches.
func (d *Dashboard) show(ctx context.Context) {
	var (
		tracks = make(map[int32]*track)
		first  = true
		polled chan []heard // nil: no round is under way
		polls  sync.WaitGroup
	)
	due := time.NewTicker(pollEvery)
	defer due.Stop()
	defer polls.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for d.hub.watched() && ctx.Err() == nil {
		changed := d.opts.Changed() // before Look, so that no change is missed
		began := time.Now()
		look := d.opts.Look()
		poll := func() {
			results := make(chan []heard, 1)
			polled = results
			polls.Go(func() { results <- d.poll(ctx, look.Nodes) })
		}
		if first {
			poll()
			first = false
		}
		d.hub.tell(d.state(look, tracks), d.opts.Now(), d.page, began)
		took := time.Since(began)

		wait, soonest := time.NewTimer(within(took)), time.NewTimer(pause(took))
		var now <-chan struct{} // changes, once it is time for them
		for again := true; again; {
			select {
			case <-ctx.Done():
				again = false
			case <-wait.C:
				again = false
			case <-soonest.C:
				now = changed
			case <-now:
				again = false
			case <-due.C:
				if polled == nil {
					poll()
				}
			case results := <-polled:
				polled = nil
				d.listen(tracks, results)
			}
		}
		wait.Stop()
		soonest.Stop()
	}
}

// listen takes in what a round of polling has brought.
func (d *Dashboard) listen(tracks map[int32]*track, results []heard) {
	now, known := d.opts.Now(), make(map[int32]bool, len(results))
	for _, h := range results {
		known[h.node] = true
		if tracks[h.node] == nil {
			tracks[h.node] = new(track)
		}
		tracks[h.node].note(now, h.figures, h.err)
	}
	for id := range tracks {
		if !known[id] {
			delete(tracks, id)
		}
	}
	if p, ok := point(tracks, len(results), now); ok {
		d.hub.draw(p)
	}
}

// state is what is shown now.
func (d *Dashboard) state(look Look, tracks map[int32]*track) items {
	seen := [][]Win{d.opts.Winners()}
	for _, t := range tracks {
		if n := len(t.samples); n > 0 {
			seen = append(seen, t.samples[n-1].Winners)
		}
	}
	return build(look, d.opts.Version, loads(tracks, d.opts.Now()), mergeWins(seen...))
}
