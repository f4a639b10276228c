package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of requests. path is the pattern that took one, never what a client
// wrote, so there are no more values than patterns.
type metrics struct {
	registerer prometheus.Registerer // may be nil
	seconds    *prometheus.HistogramVec
	requests   *prometheus.CounterVec
	log        *slog.Logger // of each request; nil: none
}

func newMetrics(r prometheus.Registerer, log *slog.Logger) (*metrics, error) {
	m := &metrics{
		registerer: r,
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "raftsman_http_request_seconds", Help: "HTTP requests, by what answers them.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}, []string{"path"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "raftsman_http_requests_total", Help: "HTTP requests, by what answers them and the status."}, []string{"path", "code"}),
		log: log,
	}
	if r == nil {
		return m, nil
	}
	if err := errors.Join(r.Register(m.seconds), r.Register(m.requests)); err != nil {
		m.unregister()
		return nil, err
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.registerer != nil {
		m.registerer.Unregister(m.seconds)
		m.registerer.Unregister(m.requests)
	}
}

// count wraps a mux.
func (m *metrics) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		s := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(s, r)
		took := time.Since(began)
		path := "other" // nothing here: what a client asked for is no label
		if r.Pattern != "" {
			path = r.Pattern[strings.IndexByte(r.Pattern, ' ')+1:]
		}
		m.seconds.WithLabelValues(path).Observe(took.Seconds())
		m.requests.WithLabelValues(path, strconv.Itoa(s.code)).Inc()
		if m.log != nil {
			m.log.Info("request", "method", r.Method, "path", r.URL.Path, "status", s.code, "remote", r.RemoteAddr, "took", took)
		}
	})
}

// statusWriter remembers the status. http.ResponseController finds what is beneath.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (s *statusWriter) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Flush implements http.Flusher for what does not ask a ResponseController.
func (s *statusWriter) Flush() { _ = http.NewResponseController(s.ResponseWriter).Flush() }

func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
