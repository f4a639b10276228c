package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/raftsman/raftsman/internal/discovery"
)

func handler(opts Options, m *metrics) http.Handler {
	mux := http.NewServeMux()
	probe(mux, "/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := opts.Alive(); err != nil {
			text(w, http.StatusServiceUnavailable, "to be started again: "+err.Error())
			return
		}
		text(w, http.StatusOK, "ok")
	})
	probe(mux, "/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := opts.Ready(); err != nil {
			text(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		text(w, http.StatusOK, "ready")
	})
	probes(mux, opts.Probes)
	if opts.LogLevel != nil {
		logLevel(mux, opts)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(opts.Gatherer, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(opts.Logger.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError, // one bad metric hides no other
		MaxRequestsInFlight: 4,
		Timeout:             20 * time.Second,
	}))
	mux.HandleFunc("GET /cluster.json", func(w http.ResponseWriter, r *http.Request) { clusterJSON(w, r, opts) })
	if opts.Evidence != nil {
		mux.HandleFunc("GET /cluster/view", func(w http.ResponseWriter, _ *http.Request) { evidence(w, opts) })
	}
	if opts.Recovery != nil {
		recovery(mux, opts)
	}
	if opts.Refiller != nil {
		refill(mux, opts)
	}
	if opts.Operator != nil {
		operator(mux, opts)
	}
	if opts.Verify != nil {
		mux.HandleFunc("POST /cluster/verify", func(w http.ResponseWriter, r *http.Request) { verify(w, r, opts) })
	}
	if opts.Dashboard != nil {
		for _, pattern := range []string{"GET /{$}", "GET /ui/", "GET /api/dashboard/"} {
			mux.Handle(pattern, opts.Dashboard)
		}
	}
	if opts.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	for _, path := range opts.APIPaths {
		mux.Handle(path, opts.API)
	}
	counted := m.count(mux)
	limited := http.MaxBytesHandler(counted, maxBody)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := func(path string) bool { return strings.HasPrefix(r.URL.Path, path) } // they have bounds of their own
		if r.URL.Path == fillPath || slices.ContainsFunc(opts.APIPaths, own) {
			counted.ServeHTTP(w, r)
			return
		}
		limited.ServeHTTP(w, r)
	})
}

func clusterJSON(w http.ResponseWriter, r *http.Request, opts Options) {
	var buf bytes.Buffer // whole, so that a failure is a status and not half an object
	enc := json.NewEncoder(&buf)
	enc.SetIndent("", "  ")
	if err := enc.Encode(opts.ClusterJSON()); err != nil {
		opts.Logger.Error("can't encode the cluster as JSON", "err", err)
		text(w, http.StatusInternalServerError, "can't encode the cluster as JSON")
		return
	}
	if nonce := r.Header.Get(discovery.HeaderNonce); nonce != "" && opts.Sign != nil {
		if signature := opts.Sign(nonce, buf.Bytes()); signature != "" {
			w.Header().Set(discovery.HeaderSignature, signature)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(buf.Bytes()) // an error means that the client has gone
}

// evidence can be large: it is compact, and not kept whole beside its encoding.
func evidence(w http.ResponseWriter, opts Options) {
	found, err := opts.Evidence()
	var body []byte
	if err == nil {
		body, err = json.Marshal(found)
	}
	if err != nil {
		opts.Logger.Error("can't show what this node knows of the cluster", "err", err)
		text(w, http.StatusInternalServerError, "can't show what this node knows of the cluster")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(body) // an error means that the client has gone
}

func text(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, line)
}
