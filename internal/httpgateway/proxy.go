package httpgateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/internal/cluster"
)

const (
	lookEvery    = time.Second // at all nodes
	lookLimit    = 2 * time.Second
	forgetNode   = 15 * time.Minute // that nobody names any more
	maxClusterJS = 64 << 20
)

// ProxyOptions are those of a Proxy. Seeds and Logger are needed.
type ProxyOptions struct {
	// Seeds are HTTP addresses of nodes, HOST:PORT; the others are found through them.
	Seeds  func(context.Context) ([]string, error)
	Limits Limits
	Logger *slog.Logger
}

// Proxy sends HTTP requests on to nodes that are ready, one after the other.
type Proxy struct {
	opts      ProxyOptions
	transport *http.Transport
	proxy     *httputil.ReverseProxy
	guard     *guard
	turn      atomic.Uint32
	cluster   atomic.Pointer[[]byte] // the last /cluster.json

	mu    sync.Mutex
	nodes map[string]*target // by address
}

// target is a node.
type target struct {
	up     bool
	fit    bool      // neither about to go nor slow
	named  time.Time // last by a seed or a node
	barred time.Time // until then it is asked last
}

// NewProxy makes a proxy; it knows no node before Run.
func NewProxy(opts ProxyOptions) (*Proxy, error) {
	if opts.Seeds == nil || opts.Logger == nil {
		return nil, errors.New("HTTP proxy needs seeds and a logger")
	}
	opts.Limits.setDefaults()
	p := &Proxy{opts: opts, transport: newTransport(), nodes: make(map[string]*target)}
	p.transport.ResponseHeaderTimeout = writeSlack + callTimeout
	p.guard = newGuard(opts.Limits, func() string { return "" })
	p.proxy = &httputil.ReverseProxy{
		Rewrite:       p.rewrite,
		Transport:     p,
		FlushInterval: -1, // streams
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			e := refuse(connect.CodeUnavailable, "%v", err)
			var known *connect.Error
			if errors.As(err, &known) {
				e = known
			}
			p.guard.refuse(w, r, e)
		},
		ErrorLog: slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug),
	}
	return p, nil
}

// writeSlack is what a node may take longer than its own limit.
const writeSlack = 5 * time.Second

// ProxyPaths are what a proxy has: the services, and what nodes tell operators.
func ProxyPaths() []string {
	return append(Paths(), "/health.json", "/nodes", "/partitions", "/ops", "/ops/", "/rebalance")
}

// Handler sends on what is asked below ProxyPaths.
func (p *Proxy) Handler() http.Handler {
	return p.guard.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hops(r.Header) >= maxHops {
			p.guard.refuse(w, r, refuse(connect.CodeUnavailable, "the request has passed %d nodes already", hops(r.Header)))
			return
		}
		f := &forward{again: readOnly(r)}
		if !strings.HasSuffix(r.URL.Path, "/ServerReflectionInfo") { // which goes back and forth
			body, err := io.ReadAll(r.Body)
			if err != nil {
				p.guard.refuse(w, r, refuse(connect.CodeResourceExhausted, "the request can't be read, or has more than %d bytes (--http-max-request-bytes)", p.opts.Limits.MaxRequestBytes))
				return
			}
			f.body = body
			f.whole = true
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		p.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), forwardKey{}, f)))
	}))
}

// forward is a request on its way.
type forward struct {
	body  []byte
	whole bool // body is all of it
	again bool // it changes nothing: it may be sent twice
}

type forwardKey struct{}

func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	r.SetXForwarded()
	r.Out.URL.Scheme = "http"
	r.Out.Header.Set(HeaderHops, strconv.Itoa(hops(r.In.Header)+1))
	if strings.HasPrefix(r.In.URL.Path, "/raftsman.v1.") { // the guard has looked; other paths refuse pages
		for _, name := range []string{"Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"} {
			r.Out.Header.Del(name)
		}
	}
}

// RoundTrip implements http.RoundTripper: it asks nodes until one answers, as long as
// it is sure that none has been told to change something.
func (p *Proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	f, _ := r.Context().Value(forwardKey{}).(*forward)
	var tried []string
	last := errors.New("no node is ready, or none is known: name some with --http-nodes, or etcd")
	for {
		addr := p.choose(tried)
		if addr == "" {
			return nil, refuse(connect.CodeUnavailable, "%w; ask again", last)
		}
		tried = append(tried, addr)
		sent := new(atomic.Bool)
		ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
		out := r.Clone(ctx)
		out.URL.Host, out.Host = addr, addr
		if f.whole {
			out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(f.body)), int64(len(f.body))
		}
		resp, err := p.transport.RoundTrip(out)
		switch {
		case err == nil:
			return resp, nil
		case r.Context().Err() != nil:
			return nil, r.Context().Err()
		}
		p.bar(addr)
		last = fmt.Errorf("node at %s: %w", addr, err)
		if sent.Load() && !(f.again && f.whole) {
			return nil, refuse(connect.CodeUnavailable, "the connection to the node at %s broke, and it is not known what it has done: %w", addr, err)
		}
	}
}

// readOnly says whether a request changes nothing.
func readOnly(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead || reads[r.URL.Path]
}

// reads are the procedures that change nothing.
var reads = func() map[string]bool {
	all := make(map[string]bool)
	for _, f := range []protoreflect.FileDescriptor{v1.File_raftsman_v1_records_proto, v1.File_raftsman_v1_topics_proto, v1.File_raftsman_v1_groups_proto, v1.File_raftsman_v1_cluster_proto} {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				if o, ok := m.Options().(*descriptorpb.MethodOptions); ok && o.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS || m.IsStreamingServer() {
					all[fmt.Sprintf("/%s/%s", s.FullName(), m.Name())] = true
				}
			}
		}
	}
	return all
}()

// choose picks a node that has not been tried: "" is none.
func (p *Proxy) choose(tried []string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var good, poor []string
	now := time.Now()
	for _, addr := range slices.Sorted(maps.Keys(p.nodes)) {
		switch t := p.nodes[addr]; {
		case slices.Contains(tried, addr):
		case t.up && t.fit && now.After(t.barred):
			good = append(good, addr)
		case t.up:
			poor = append(poor, addr)
		}
	}
	if len(good) == 0 {
		good = poor
	}
	if len(good) == 0 {
		return ""
	}
	return good[int(p.turn.Add(1)%uint32(len(good)))]
}

func (p *Proxy) bar(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.nodes[addr]; t != nil {
		t.barred = time.Now().Add(penalty)
	}
}

// ClusterJSON is what a node has said of the cluster last.
func (p *Proxy) ClusterJSON() any {
	if last := p.cluster.Load(); last != nil {
		return json.RawMessage(*last)
	}
	return struct{}{}
}

// Ready says why nothing can be sent on, or nil.
func (p *Proxy) Ready() error {
	if p.choose(nil) == "" {
		return errors.New("no node is ready over HTTP")
	}
	return nil
}

// Run looks at the nodes until ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	defer p.transport.CloseIdleConnections()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		p.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks all nodes whether they are ready, and one of them for the others.
func (p *Proxy) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	if p.choose(nil) == "" {
		seeds, err := p.opts.Seeds(ctx)
		if err != nil {
			p.opts.Logger.Debug("no addresses of nodes", "err", err)
		}
		for _, addr := range seeds {
			p.name(addr, true)
		}
	}
	p.mu.Lock()
	addrs := slices.Collect(maps.Keys(p.nodes))
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, addr := range addrs {
		wg.Go(func() {
			_, err := p.get(ctx, addr, "/readyz")
			p.mu.Lock()
			defer p.mu.Unlock()
			if t := p.nodes[addr]; t != nil {
				t.up = err == nil
			}
		})
	}
	wg.Wait()
	addr := p.choose(nil)
	if addr == "" {
		return
	}
	body, err := p.get(ctx, addr, "/cluster.json")
	var said struct {
		Nodes []cluster.Node `json:"nodes"`
	}
	if err == nil {
		err = json.Unmarshal(body, &said)
	}
	if err != nil {
		p.opts.Logger.Debug("a node does not tell of the others", "addr", addr, "err", err)
		return
	}
	p.cluster.Store(&body)
	for _, n := range said.Nodes {
		if n.HTTP != "" {
			p.name(n.HTTP, n.State == cluster.StateReady && n.SlowDiskMS == 0)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.nodes, func(_ string, t *target) bool { return !t.up && time.Since(t.named) > forgetNode })
}

func (p *Proxy) name(addr string, fit bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.nodes[addr]
	if t == nil {
		t = new(target)
		p.nodes[addr] = t
	}
	t.named, t.fit = time.Now(), fit
}

func (p *Proxy) get(ctx context.Context, addr, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxClusterJS))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return body, err
}
