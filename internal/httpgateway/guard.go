package httpgateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/raftsman/raftsman/api/raftsman/v1/raftsmanv1connect"
)

const (
	streamStall = 30 * time.Second // how long a client may take nothing of a stream
	envelope    = 4 << 10          // of a message, and some room for its compression
)

// guard stands before the services.
type guard struct {
	limits   Limits
	self     func() string // the address that others are told
	hostname string
	errors   *connect.ErrorWriter
	calls    chan struct{}
	streams  chan struct{}
}

func newGuard(limits Limits, self func() string) *guard {
	name, _ := os.Hostname() // without one there is one name less
	return &guard{
		limits: limits, self: self, hostname: name, errors: connect.NewErrorWriter(codecs()...),
		calls: make(chan struct{}, limits.MaxRequests), streams: make(chan struct{}, limits.MaxRequests),
	}
}

func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.admit(w, r); err != nil {
			g.refuse(w, r, err)
			return
		}
		if r.Method == http.MethodOptions { // of a page that may call: its browser asks first
			w.WriteHeader(http.StatusNoContent)
			return
		}
		places := g.calls
		if isStream(r) {
			places = g.streams
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			w.Header().Set("Retry-After", "1")
			g.refuse(w, r, refuse(connect.CodeResourceExhausted, "this node answers %d requests already (--http-max-requests): ask again soon, or another node", cap(places)))
			return
		}
		// A copy: the server has to find its own body, to see that it was not read to its
		// end and that the connection can't be used again.
		bounded := *r
		bounded.Body = http.MaxBytesReader(w, r.Body, int64(g.limits.MaxRequestBytes)+envelope)
		if isStream(r) {
			rc := http.NewResponseController(w)
			_ = rc.SetReadDeadline(time.Time{}) // what can't be set is not set for others either
			w = &paced{ResponseWriter: w, rc: rc}
		}
		next.ServeHTTP(w, &bounded)
	})
}

// isStream says whether a request's answer has no end by itself.
func isStream(r *http.Request) bool {
	return r.URL.Path == raftsmanv1connect.RecordServiceConsumeProcedure || strings.HasSuffix(r.URL.Path, "/Watch") ||
		strings.HasSuffix(r.URL.Path, "/ServerReflectionInfo")
}

// paced gives each write of a stream its own time.
type paced struct {
	http.ResponseWriter
	rc *http.ResponseController
}

func (p *paced) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(streamStall))
	return p.ResponseWriter.Write(b)
}

// Flush implements http.Flusher, which Connect wants.
func (p *paced) Flush() {
	_ = p.rc.SetWriteDeadline(time.Now().Add(streamStall))
	_ = p.rc.Flush()
	_ = p.rc.SetWriteDeadline(time.Time{}) // silence is no stall
}

func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// refuse answers in the protocol of the one who asks.
func (g *guard) refuse(w http.ResponseWriter, r *http.Request, err *connect.Error) {
	if g.errors.IsSupported(r) {
		_ = g.errors.Write(w, r, err) // an error means that the client has gone
		return
	}
	status := http.StatusForbidden
	if err.Code() == connect.CodeResourceExhausted {
		status = http.StatusTooManyRequests
	}
	http.Error(w, err.Message(), status)
}

// admit refuses what a web page elsewhere has sent.
func (g *guard) admit(w http.ResponseWriter, r *http.Request) *connect.Error {
	if !g.knows(hostOf(r.Host)) {
		return refuse(connect.CodePermissionDenied, "this node is not known as %.100q: call it by its address, or name the host with --http-allowed-hosts", r.Host)
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
			return refuse(connect.CodePermissionDenied, "this comes from a web page elsewhere (Sec-Fetch-Site %.20q)", site)
		}
		return nil
	}
	if u, err := url.Parse(origin); err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	if !slices.Contains(g.limits.AllowedOrigins, "*") && !slices.ContainsFunc(g.limits.AllowedOrigins, func(o string) bool { return strings.EqualFold(o, origin) }) {
		return refuse(connect.CodePermissionDenied, "this comes from a web page elsewhere (Origin %.100q): name it with --http-allowed-origins if it may", origin)
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, Grpc-Timeout, X-Grpc-Web, X-User-Agent")
	h.Set("Access-Control-Expose-Headers", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, "+HeaderAnswered)
	h.Set("Access-Control-Max-Age", "600")
	return nil
}

// knows says whether clients may call the node by a name. Addresses they may: no
// page can have its own name rebound to one.
func (g *guard) knows(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		host != "" && (strings.EqualFold(host, g.hostname) || strings.EqualFold(host, hostOf(g.self()))) ||
		slices.Contains(g.limits.AllowedHosts, "*") || slices.ContainsFunc(g.limits.AllowedHosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// hostOf is an address without its port and brackets.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
}
