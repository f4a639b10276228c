package httpgateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"

	"github.com/raftsman/raftsman/api/raftsman/v1/raftsmanv1connect"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/kafka"
)

const (
	// HeaderAnswered names the nodes that answered, with commas between them.
	HeaderAnswered = "Raftsman-Answered-By"
	// HeaderHops is how many nodes have sent a request on.
	HeaderHops = "Raftsman-Hops"
	// maxHops: a gateway's and a node's with an old view.
	maxHops = 2

	callTimeout = 25 * time.Second // of a request that is no stream
)

// Backend is the node behind the services. Its methods must not block, but for
// those of gateway.Operator that change something.
type Backend interface {
	gateway.Operator
	NodeID() int32
	ClusterID() string
	Topic(name string) (kafka.TopicInfo, bool)
	Topics() []kafka.TopicInfo
	// TopicsChanged returns a channel that is closed at the next change of topics,
	// leaders, replicas in sync or live nodes. Take it before looking.
	TopicsChanged() <-chan struct{}
	// Connect opens a connection to the node's own Kafka server.
	Connect() net.Conn
	// Peer says how a node can be reached.
	Peer(node int32) Peer
}

// Peer is a node as the others see it.
type Peer struct {
	HTTP  string // HOST:PORT; "" is not known
	Alive bool   // it answers
	Fit   bool   // it is not about to go, and its disk is not slow
}

// Limits bound what clients can make a node hold. Zero means the default.
type Limits struct {
	MaxRequestBytes int // of a request, without compression; default 4 MiB
	MaxRequests     int // under way at once, and as many streams beside them; default 256
	// AllowedHosts are names by which clients may call the node, besides its own;
	// "*" is any.
	AllowedHosts []string
	// AllowedOrigins are web pages that may call it, such as https://ops.example.com;
	// "*" is any.
	AllowedOrigins []string
}

func (l *Limits) setDefaults() {
	if l.MaxRequestBytes == 0 {
		l.MaxRequestBytes = 4 << 20
	}
	if l.MaxRequests == 0 {
		l.MaxRequests = 256
	}
}

// Options of a Gateway. Backend, Kafka and Logger are needed.
type Options struct {
	Backend Backend
	// Kafka is the address by which the node's own Kafka server is known to clients of
	// its first listener.
	Kafka string
	// Ready says why the node does not serve, or nil. Default: always ready.
	Ready  func() error
	Limits Limits
	Logger *slog.Logger
}

// Gateway has the services of a node.
type Gateway struct {
	backend   Backend
	log       *slog.Logger
	asker     *asker
	admin     *admin
	peers     *peers
	producers *producers
	guard     *guard
	handler   http.Handler

	ctx    context.Context // of streams; ends with Close
	cancel context.CancelFunc
}

// New makes the services. They are served by Handler, and need the node's Kafka
// server.
func New(opts Options) (*Gateway, error) {
	if opts.Backend == nil || opts.Logger == nil {
		return nil, errors.New("HTTP gateway needs a backend and a logger")
	}
	if opts.Ready == nil {
		opts.Ready = func() error { return nil }
	}
	opts.Limits.setDefaults()
	g := &Gateway{backend: opts.Backend, log: opts.Logger, asker: &asker{connect: opts.Backend.Connect}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.peers = newPeers(g.backend)
	g.producers = newProducers(g.initProducer)
	g.guard = newGuard(opts.Limits, func() string { return opts.Backend.Peer(opts.Backend.NodeID()).HTTP })
	var err error
	if g.admin, err = newAdmin(opts.Kafka, opts.Backend.Connect); err != nil {
		return nil, err
	}
	g.handler = g.guard.wrap(g.routes(opts))
	return g, nil
}

// Close ends all streams and lets go of connections. Handlers are to be waited for
// by the server that runs them.
func (g *Gateway) Close() error {
	g.cancel()
	g.admin.close()
	g.asker.close()
	g.peers.close()
	return nil
}

// Handler serves what is below Paths.
func (g *Gateway) Handler() http.Handler { return g.handler }

var services = []string{
	raftsmanv1connect.RecordServiceName, raftsmanv1connect.TopicServiceName, raftsmanv1connect.GroupServiceName,
	raftsmanv1connect.ClusterServiceName, raftsmanv1connect.NodeServiceName, raftsmanv1connect.OperationServiceName,
}

// Paths are what services have below them, those of reflection and health too.
func Paths() []string {
	all := []string{"/" + grpchealth.HealthV1ServiceName + "/", "/" + grpcreflect.ReflectV1ServiceName + "/", "/" + grpcreflect.ReflectV1AlphaServiceName + "/"}
	for _, s := range services {
		all = append(all, "/"+s+"/")
	}
	return all
}

func (g *Gateway) routes(opts Options) http.Handler {
	mux := http.NewServeMux()
	with := connect.WithHandlerOptions(append(codecs(),
		connect.WithReadMaxBytes(opts.Limits.MaxRequestBytes),
		connect.WithCompressMinBytes(1<<10),
		connect.WithInterceptors(&answers{g}),
		connect.WithRecover(func(_ context.Context, spec connect.Spec, _ http.Header, p any) error {
			g.log.Error("BUG: a handler of the HTTP gateway panicked", "procedure", spec.Procedure, "panic", p)
			return connect.NewError(connect.CodeInternal, errors.New("the node has a bug: its log says more"))
		}))...)
	mux.Handle(raftsmanv1connect.NewRecordServiceHandler(records{g}, with))
	mux.Handle(raftsmanv1connect.NewTopicServiceHandler(topics{g}, with))
	mux.Handle(raftsmanv1connect.NewGroupServiceHandler(groups{g}, with))
	mux.Handle(raftsmanv1connect.NewClusterServiceHandler(clusters{g}, with))
	mux.Handle(raftsmanv1connect.NewNodeServiceHandler(nodes{g}, with))
	mux.Handle(raftsmanv1connect.NewOperationServiceHandler(operations{g}, with))
	mux.Handle(grpchealth.NewHandler(checker{opts.Ready}, with))
	reflector := grpcreflect.NewStaticReflector(append([]string{grpchealth.HealthV1ServiceName}, services...)...)
	mux.Handle(grpcreflect.NewHandlerV1(reflector, with))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, with))
	return mux
}

// checker answers gRPC's health checks.
type checker struct{ ready func() error }

// Check implements grpchealth.Checker.
func (c checker) Check(_ context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	known := req.Service == ""
	for _, s := range services {
		known = known || s == req.Service
	}
	if !known {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no service of this name"))
	}
	if c.ready() != nil {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}

// answers says in each response who answered, and bounds calls in time.
type answers struct{ g *Gateway }

// WrapUnary implements connect.Interceptor.
func (a *answers) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		resp, err := next(ctx, req)
		self := strconv.Itoa(int(a.g.backend.NodeID()))
		if err != nil {
			e := explained(err)
			if e.Meta().Get(HeaderAnswered) == "" {
				e.Meta().Set(HeaderAnswered, self)
			}
			return nil, e
		}
		if resp.Header().Get(HeaderAnswered) == "" {
			resp.Header().Set(HeaderAnswered, self)
		}
		return resp, nil
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (a *answers) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (a *answers) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := next(ctx, conn); err != nil {
			return explained(err)
		}
		return nil
	}
}

// hops is how many nodes a request has passed.
func hops(h http.Header) int {
	n, err := strconv.Atoi(h.Get(HeaderHops))
	if err != nil || n < 0 || n > maxHops {
		if h.Get(HeaderHops) == "" {
			return 0
		}
		return maxHops
	}
	return n
}
