package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = 30 * time.Second // a profile gets this and the time it takes
	idleTimeout   = time.Minute
	closeTimeout  = 2 * time.Second // that requests under way get to finish
	maxHeader     = 16 << 10
	maxBody       = 1 << 20
)

// Options of a Server. Listener is required.
type Options struct {
	// Listener is closed with the server.
	Listener net.Listener
	// Ready says why the node does not serve, or nil. It must not block.
	// Default: always ready.
	Ready func() error
	// Alive says why the process should be started again, or nil. It must not block.
	// Default: never.
	Alive func() error
	// ClusterJSON returns what /cluster.json shows. It must not block.
	ClusterJSON func() any
	// Sign returns the signature of /cluster.json for the nonce of the one who asks,
	// or "". Default: nothing is signed.
	Sign func(nonce string, body []byte) string
	// Evidence returns what /cluster/view shows: all that this node knows of the
	// cluster, for a restore. Default: no such path.
	Evidence func() (any, error)
	// Recovery serves /partition/recover. Default: no such path.
	Recovery *Recovery
	// Refiller fills partitions from a backup. Default: no such paths.
	Refiller Refiller
	// Operator serves the paths for operators. Default: no such paths.
	Operator Operator
	// Verify compares the replicas of the cluster for POST /cluster/verify, whose
	// body the options are; what it finds it hands to emit, as it goes. An error of
	// emit means that nobody listens any more. Default: no such path.
	Verify func(ctx context.Context, options []byte, emit func(event any) error) error
	// Dashboard serves / and all below /ui/ and /api/dashboard/. Default: no such
	// paths.
	Dashboard http.Handler
	// Probes answer load balancers. What is nil has no path.
	Probes Probes
	// Gatherer holds what /metrics shows. Default: nothing.
	Gatherer prometheus.Gatherer
	// Registerer gets the metrics raftsman_http_*; may be nil.
	Registerer prometheus.Registerer
	// LogLevel is what PUT /log/level sets. Default: no such path.
	LogLevel *slog.LevelVar
	// LogRequests logs each request.
	LogRequests bool
	// Pprof serves Go's profiles.
	Pprof bool
	// API takes what is below APIPaths, each with a slash at its end. It bounds what
	// it reads and how long it takes itself. Default: nothing.
	API      http.Handler
	APIPaths []string
	// Logger hears of failed requests. Default: nowhere.
	Logger *slog.Logger
}

// Server is the HTTP server of a node.
type Server struct {
	http     *http.Server
	listener net.Listener
	metrics  *metrics

	mu      sync.Mutex
	started bool
	done    chan struct{} // closed when Run's serving has ended

	closeOnce sync.Once
	closeErr  error
}

// New returns a server that answers once Run is called.
func New(opts Options) (*Server, error) {
	if opts.Listener == nil {
		return nil, errors.New("gateway: Listener is not set")
	}
	if opts.Alive == nil {
		opts.Alive = func() error { return nil }
	}
	if opts.Ready == nil {
		opts.Ready = func() error { return nil }
	}
	if opts.ClusterJSON == nil {
		opts.ClusterJSON = func() any { return struct{}{} }
	}
	if opts.Gatherer == nil {
		opts.Gatherer = prometheus.NewRegistry()
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	var requests *slog.Logger
	if opts.LogRequests {
		requests = opts.Logger
	}
	m, err := newMetrics(opts.Registerer, requests)
	if err != nil {
		return nil, fmt.Errorf("register metrics of HTTP: %w", err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // gRPC needs it
	return &Server{
		listener: opts.Listener,
		metrics:  m,
		done:     make(chan struct{}),
		http: &http.Server{
			Handler:           handler(opts, m),
			Protocols:         protocols,
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeader,
			ErrorLog:          slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug),
		},
	}, nil
}

// Run serves until ctx ends or Close is called, and returns nil then. It is
// called once.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.started {
		s.mu.Unlock()
		return errors.New("BUG: gateway: Run was called twice")
	}
	s.started = true
	s.mu.Unlock()

	served := make(chan error, 1)
	go func() {
		defer close(s.done)
		served <- s.http.Serve(s.listener)
	}()
	select {
	case <-ctx.Done():
		return s.Close()
	case err := <-served:
		if errors.Is(err, http.ErrServerClosed) {
			return s.Close() // waits for requests under way
		}
		return errors.Join(fmt.Errorf("serve HTTP on %s: %w", s.listener.Addr(), err), s.Close())
	}
}

// Close stops the server and waits for the requests under way, for a little
// while. It may be called at any time, more than once.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		s.closeErr = s.close()
		s.metrics.unregister()
	})
	return s.closeErr
}

func (s *Server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close() // whoever stalls is cut off
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	s.mu.Lock()
	started := s.started
	s.mu.Unlock()
	if started {
		<-s.done
		return err
	}
	if cerr := s.listener.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}
