package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Listener is an open socket and the name under which the backend knows the
// addresses that its clients are told. Whoever opened the socket decides what
// is below the Kafka protocol on it (TLS).
type Listener struct {
	Name string
	Net  net.Listener
	// Advertised is what the node tells clients while the backend does not
	// list any broker for this listener. Host and port; may be empty.
	Advertised string
}

// Options of a server. Backend or Forward, Logger and at least one listener are
// needed.
type Options struct {
	Listeners  []Listener
	Backend    Backend
	Forward    Forwarder // answers instead of a backend
	Logger     *slog.Logger
	Limits     Limits
	Registerer prometheus.Registerer // may be nil
	// MetricPrefix is what the names of the metrics begin with. Default
	// raftsman_kafka_.
	MetricPrefix string

	// RackAware sends consumers that name their rack to an in-sync replica there, as
	// Kafka's RackAwareReplicaSelector does.
	RackAware bool
	// LogRequests logs each request when it was answered.
	LogRequests bool

	Clock func() time.Time // default time.Now; for latencies and log limits only
}

// Limits bound what clients can make the server hold. Zero means the default.
type Limits struct {
	MaxConnections     int           // of all listeners; default 10,000
	MaxRequestBytes    int           // of a Produce frame; default 100 MiB
	MaxControlBytes    int           // of any other frame; default 8 MiB
	MaxPendingRequests int           // of a connection, read and not yet answered; default 512
	MaxPendingBytes    int           // of a connection, requests and ready responses; default 64 MiB
	MaxRequestMemory   int64         // of all connections: requests in flight; default 512 MiB
	MaxResponseMemory  int64         // of all connections: responses not yet written; default 512 MiB
	MaxMessageBytes    int           // of a batch, unless the topic says otherwise; default 1,048,588
	MaxFetchBytes      int           // of a Fetch response, whatever the client asks for; default 55 MiB
	MaxFetchSessions   int           // of all clients; default 1000
	MaxSessionMemory   int64         // what fetch sessions keep, of all clients; default 64 MiB
	ProduceTimeout     time.Duration // when the client gives none; default 30 s
	IdleTimeout        time.Duration // between requests; default 10 min
	StallTimeout       time.Duration // for the next MiB of a request or 4 MiB of a response; default 1 min
	ContendedTimeout   time.Duration // for the next MiB of a request while others wait for its memory; default 5 s
	CreateWait         time.Duration // that CreateTopics and CreatePartitions wait for leaders of what they created, and Metadata for a topic under way; default 1 s
	LeaderWait         time.Duration // that Metadata waits for an election under way; default 600 ms
	ElectionWait       time.Duration // that Fetch and what else a leader answers wait for an election of the partition; default 500 ms
	CloseTimeout       time.Duration // that Close waits for pending requests; default 5 s
}

func (l *Limits) setDefaults() {
	orInt := func(p *int, d int) {
		if *p == 0 {
			*p = d
		}
	}
	orTime := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	orInt(&l.MaxConnections, 10_000)
	orInt(&l.MaxRequestBytes, 100<<20)
	orInt(&l.MaxControlBytes, 8<<20)
	orInt(&l.MaxPendingRequests, 512)
	orInt(&l.MaxPendingBytes, 64<<20)
	if l.MaxRequestMemory == 0 {
		l.MaxRequestMemory = 512 << 20
	}
	if l.MaxResponseMemory == 0 {
		l.MaxResponseMemory = 512 << 20
	}
	orInt(&l.MaxMessageBytes, 1_048_588)
	orInt(&l.MaxFetchBytes, 55<<20)
	orInt(&l.MaxFetchSessions, 1000)
	if l.MaxSessionMemory == 0 {
		l.MaxSessionMemory = 64 << 20
	}
	orTime(&l.ProduceTimeout, 30*time.Second)
	orTime(&l.IdleTimeout, 10*time.Minute)
	orTime(&l.StallTimeout, time.Minute)
	orTime(&l.ContendedTimeout, 5*time.Second)
	orTime(&l.CreateWait, time.Second)
	orTime(&l.LeaderWait, 600*time.Millisecond)
	orTime(&l.ElectionWait, 500*time.Millisecond)
	orTime(&l.CloseTimeout, 5*time.Second)
}

func (l *Limits) validate() error {
	for _, v := range []struct {
		name string
		have int64
		most int64
	}{
		{"MaxConnections", int64(l.MaxConnections), 1 << 30},
		{"MaxRequestBytes", int64(l.MaxRequestBytes), 1 << 30},
		{"MaxControlBytes", int64(l.MaxControlBytes), 1 << 30},
		{"MaxPendingRequests", int64(l.MaxPendingRequests), 1 << 20},
		{"MaxPendingBytes", int64(l.MaxPendingBytes), 1 << 40},
		{"MaxRequestMemory", l.MaxRequestMemory, 1 << 50},
		{"MaxResponseMemory", l.MaxResponseMemory, 1 << 50},
		{"MaxMessageBytes", int64(l.MaxMessageBytes), 1 << 30},
		{"MaxFetchBytes", int64(l.MaxFetchBytes), 1 << 30},
		{"MaxFetchSessions", int64(l.MaxFetchSessions), 1 << 20},
		{"MaxSessionMemory", l.MaxSessionMemory, 1 << 50},
		{"ProduceTimeout", int64(l.ProduceTimeout), 1 << 62},
		{"IdleTimeout", int64(l.IdleTimeout), 1 << 62},
		{"StallTimeout", int64(l.StallTimeout), 1 << 62},
		{"ContendedTimeout", int64(l.ContendedTimeout), 1 << 62},
		{"CreateWait", int64(l.CreateWait), 1 << 62},
		{"LeaderWait", int64(l.LeaderWait), 1 << 62},
		{"ElectionWait", int64(l.ElectionWait), 1 << 62},
		{"CloseTimeout", int64(l.CloseTimeout), 1 << 62},
	} {
		if v.have < 1 || v.have > v.most {
			return fmt.Errorf("kafka limit %s is %d, must be 1 to %d", v.name, v.have, v.most)
		}
	}
	return nil
}

// Server serves the Kafka protocol on its listeners.
type Server struct {
	opts    Options
	backend Backend
	log     *slog.Logger
	metrics *metrics
	apis    *apiTable
	noise   *noiseLimit

	requests *budget
	outgoing *outgoing
	sessions *sessionCache
	racks    rackCache

	creations *creations

	ctx    context.Context // of connections; ends when Close gives up waiting
	cancel context.CancelFunc

	mu        sync.Mutex
	conns     map[*conn]struct{}
	serving   bool
	closing   bool
	suspended bool
	wg        sync.WaitGroup // accept loops and connections
	once      sync.Once
}

// New makes a server; it does nothing before Serve.
func New(opts Options) (*Server, error) {
	opts.Limits.setDefaults()
	if err := opts.Limits.validate(); err != nil {
		return nil, err
	}
	if len(opts.Listeners) == 0 || (opts.Backend == nil) == (opts.Forward == nil) || opts.Logger == nil {
		return nil, errors.New("kafka server needs a listener, a backend or a forwarder, and a logger")
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.MetricPrefix == "" {
		opts.MetricPrefix = "raftsman_kafka_"
	}
	m, err := newMetrics(opts.Registerer, opts.MetricPrefix)
	if err != nil {
		return nil, fmt.Errorf("register kafka metrics: %w", err)
	}
	s := &Server{
		opts: opts, backend: opts.Backend, log: opts.Logger, metrics: m,
		requests: &budget{limit: opts.Limits.MaxRequestMemory}, outgoing: &outgoing{limit: opts.Limits.MaxResponseMemory},
		sessions: newSessionCache(opts.Limits.MaxFetchSessions, opts.Limits.MaxSessionMemory, opts.Clock),
		noise:    newNoiseLimit(opts.Clock), conns: make(map[*conn]struct{}), creations: newCreations(),
	}
	if err := m.register(s.memoryMetrics()...); err != nil {
		return nil, fmt.Errorf("register kafka metrics: %w", err)
	}
	s.apis = newAPITable(s)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func (s *Server) now() time.Time { return s.opts.Clock() }

// Serve accepts connections until Close, and then returns nil, or until a
// listener fails. It returns when no listener accepts any more; only Close
// waits for connections too.
func (s *Server) Serve() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	if s.serving {
		s.mu.Unlock()
		return errors.New("kafka server is serving already")
	}
	s.serving = true
	errs := make(chan error, len(s.opts.Listeners))
	for _, l := range s.opts.Listeners {
		s.wg.Go(func() { errs <- s.accept(l) })
	}
	s.mu.Unlock()
	var err error
	for range s.opts.Listeners {
		if e := <-errs; e != nil {
			err = errors.Join(err, e)
			s.closeListeners()
		}
	}
	return err
}

func (s *Server) closeListeners() error {
	var err error
	for _, l := range s.opts.Listeners {
		if e := l.Net.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func (s *Server) accept(l Listener) error {
	backoff := time.Duration(0)
	for {
		nc, err := l.Net.Accept()
		if err != nil {
			s.mu.Lock()
			closing := s.closing
			s.mu.Unlock()
			if closing {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept on %s: %w", l.Net.Addr(), err)
			}
			// Out of descriptors, or the peer has gone: try again, slower each time.
			backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
			s.log.Warn("can't accept a kafka connection", "listener", l.Name, "err", err, "retry_in", backoff)
			select {
			case <-time.After(backoff):
			case <-s.ctx.Done():
				return nil
			}
			continue
		}
		backoff = 0
		s.start(l, nc, false)
	}
}

// Connect returns a connection from within the process. It is as any client's of the
// first listener, with the same checks and bounds, but that a Fetch reads the
// replica that is here, a follower that is in sync too. It ends at once where a
// client would be refused.
func (s *Server) Connect() net.Conn {
	near, far := net.Pipe()
	s.start(s.opts.Listeners[0], far, true)
	return near
}

// start serves a connection in a goroutine of its own, unless there are too
// many or the server is closing.
func (s *Server) start(l Listener, nc net.Conn, inside bool) {
	if tc, ok := nc.(*net.TCPConn); ok {
		tc.SetKeepAlive(true)
	}
	reset(nc)
	ctx, cancel := context.WithCancel(s.ctx)
	c := newConn(s, l, nc, cancel)
	c.inside = inside
	s.mu.Lock()
	full := len(s.conns) >= s.opts.Limits.MaxConnections
	if s.closing || s.suspended || full {
		s.mu.Unlock()
		cancel()
		nc.Close()
		if full && !s.suspended {
			s.metrics.rejected.WithLabelValues("limit").Inc()
			if s.noise.allow("limit") {
				s.log.Warn("kafka connection refused: too many are open", "remote", c.remote, "limit", s.opts.Limits.MaxConnections)
			}
		}
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Go(func() {
		s.metrics.accepted.WithLabelValues(l.Name).Inc()
		open := s.metrics.connections.WithLabelValues(l.Name)
		open.Inc()
		defer open.Dec()
		c.serve(ctx)
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	})
	s.mu.Unlock()
}

// reportEnd logs how a connection ended: one line if the peer broke the
// protocol, and not for each of many.
func (s *Server) reportEnd(c *conn, cause error) {
	var bad *badFrame
	switch {
	case errors.As(cause, &bad):
		s.metrics.rejected.WithLabelValues("protocol").Inc()
		if host, _, err := net.SplitHostPort(c.remote); err != nil || s.noise.allow(host) {
			s.log.Warn("kafka connection closed: bad request", "remote", c.remote, "listener", c.listener, "err", cause)
		}
	case !ordinary(cause):
		s.log.Debug("kafka connection ended", "remote", c.remote, "listener", c.listener, "err", cause)
	}
}

// Close stops accepting, lets pending requests finish for
// Limits.CloseTimeout, cuts what is left and waits for every goroutine.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		s.mu.Lock()
		s.closing = true
		s.mu.Unlock()
		err = s.closeListeners()
		for _, c := range s.open() {
			c.drain()
		}
		s.creations.close()
		grace := time.AfterFunc(s.opts.Limits.CloseTimeout, func() {
			s.cancel()
			for _, c := range s.open() {
				c.abort(nil)
			}
		})
		s.wg.Wait()
		grace.Stop()
		s.cancel()
		s.sessions.clear()
		s.metrics.unregister()
	})
	s.wg.Wait()
	return err
}

// open lists the connections.
func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}
