package kafkagateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// NodeID is the number under which a gateway shows itself. No node has it: theirs
// begin at 1. All gateways have the same, so that clients can be moved from one to
// another behind their backs.
const NodeID int32 = 0

// Options of a gateway. Listeners, Seeds and Logger are needed.
type Options struct {
	Listeners []kafka.Listener // Advertised is what clients are told
	// Seeds are Kafka addresses of nodes, HOST:PORT. It is asked while no node can
	// be reached.
	Seeds func(context.Context) ([]string, error)
	// Home names the node that what any node can answer is asked of, if it is
	// there; 0 for none. Default: none.
	Home func() int32
	// Dial connects to a node. Default: TCP.
	Dial       func(ctx context.Context, addr string) (net.Conn, error)
	Logger     *slog.Logger
	Limits     kafka.Limits
	Registerer prometheus.Registerer // may be nil
}

// Gateway is the only broker that its clients see.
type Gateway struct {
	opts    Options
	log     *slog.Logger
	server  *kafka.Server
	view    *view
	answers *answers
	metrics *metrics

	ctx    context.Context // of what runs in the background; ends with Close
	cancel context.CancelFunc

	mu       sync.Mutex
	closing  bool
	sessions map[*session]struct{}
	wg       sync.WaitGroup
}

// New makes a gateway; it does nothing before Run.
func New(opts Options) (*Gateway, error) {
	if opts.Seeds == nil || opts.Logger == nil {
		return nil, errors.New("kafka gateway needs seeds and a logger")
	}
	if opts.Home == nil {
		opts.Home = func() int32 { return 0 }
	}
	if opts.Dial == nil {
		d := net.Dialer{KeepAlive: 15 * time.Second}
		opts.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	limit := opts.Limits.MaxResponseMemory
	if limit == 0 {
		limit = 512 << 20
	}
	g := &Gateway{opts: opts, log: opts.Logger, answers: &answers{limit: limit}, sessions: make(map[*session]struct{})}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.view = newView(g)
	var err error
	if g.metrics, err = newMetrics(g, opts.Registerer); err != nil {
		return nil, err
	}
	g.server, err = kafka.New(kafka.Options{
		Listeners: opts.Listeners, Forward: g, Logger: opts.Logger, Limits: opts.Limits,
		Registerer: opts.Registerer, MetricPrefix: "raftsman_kafka_gateway_",
	})
	return g, err
}

// Run serves until ctx ends, or a listener fails, and closes the gateway.
func (g *Gateway) Run(ctx context.Context) error {
	g.background(g.view.seek)
	served := make(chan error, 1)
	go func() { served <- g.server.Serve() }()
	var err error
	select {
	case <-ctx.Done():
		err = g.Close()
		return errors.Join(err, <-served)
	case err = <-served:
		return errors.Join(err, g.Close())
	}
}

// Close answers what is pending for a while, ends all connections and waits.
func (g *Gateway) Close() error {
	err := g.server.Close() // sessions too
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	g.cancel() // of the gateway's own links too
	g.wg.Wait()
	return err
}

// Ready says why clients can't be served, or nil.
func (g *Gateway) Ready() error {
	if _, ok := g.view.home(); ok {
		return nil
	}
	g.view.mu.Lock()
	defer g.view.mu.Unlock()
	if v := g.view; v.foreign != "" {
		return fmt.Errorf("no node of cluster %s can be reached, only some of cluster %s: if the cluster was made anew, start the gateway again", v.cluster, v.foreign)
	}
	return fmt.Errorf("no node can be reached, %d are known", len(g.view.members))
}

// background runs f in a goroutine that Close waits for; false when it is closed.
func (g *Gateway) background(f func(context.Context)) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return false
	}
	g.wg.Go(func() { f(g.ctx) })
	return true
}

// Range implements kafka.Forwarder.
func (g *Gateway) Range(key, least, most int16) (int16, int16, bool) {
	return g.view.versions(key, least, most)
}

// Open implements kafka.Forwarder.
func (g *Gateway) Open(c kafka.ForwardClient) kafka.ForwardSession {
	s := newSession(g, c)
	g.mu.Lock()
	g.sessions[s] = struct{}{}
	g.mu.Unlock()
	return s
}

// cut ends the connections of all clients to a node that is lost.
func (g *Gateway) cut(node int32) {
	g.mu.Lock()
	sessions := make([]*session, 0, len(g.sessions))
	for s := range g.sessions {
		sessions = append(sessions, s)
	}
	g.mu.Unlock()
	for _, s := range sessions {
		s.cut(node)
	}
}

// ask sends a request to a node and waits for the answer, until ctx ends. Only
// APIs whose answers can be decoded may be asked.
func (g *Gateway) ask(ctx context.Context, l *link, req kmsg.Request, clientID string) (kmsg.Response, error) {
	type answer struct {
		resp kmsg.Response
		err  error
	}
	ch := make(chan answer, 1)
	f := newFlight(req, clientID)
	f.deadline, _ = ctx.Deadline()
	f.done = func(body []byte, release func(), _ bool, err error) {
		var resp kmsg.Response
		if err == nil {
			resp, err = decode(req, body)
			release()
		}
		ch <- answer{resp, err}
	}
	if err := l.send(f); err != nil {
		return nil, err
	}
	select {
	case a := <-ch:
		return a.resp, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// decode decodes an answer so that nothing of it aliases its body.
func decode(req kmsg.Request, body []byte) (kmsg.Response, error) {
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if req.Key() == 15 { // members' metadata
		body = append([]byte(nil), body...)
	}
	return resp, kafka.DecodeAnswer(resp, body)
}

// newFlight encodes a request whose answer comes with done.
func newFlight(req kmsg.Request, clientID string) *flight {
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)).AppendRequest(nil, req, 0)
	return &flight{frame: [][]byte{frame}, flexible: req.IsFlexible() && req.Key() != 18}
}

// address splits what clients are told.
func address(advertised string) (host string, port int32) {
	h, p, err := net.SplitHostPort(advertised)
	n, perr := strconv.ParseUint(p, 10, 16)
	if err != nil || perr != nil {
		return advertised, 0
	}
	return h, int32(n)
}
