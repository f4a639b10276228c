package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/raftsman/raftsman/pkg/node"
)

// newLogger makes the process's logger. Its level can be changed, and what it
// writes is counted: see observe.
func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: it must be debug, info, warn or error", level)
	}
	h := logHandler{level: new(slog.LevelVar), messages: newLogCounter()}
	h.level.Set(l)
	opts := &slog.HandlerOptions{Level: h.level}
	switch format {
	case "text":
		h.Handler = slog.NewTextHandler(w, opts)
	case "json":
		h.Handler = slog.NewJSONHandler(w, opts)
	default:
		return nil, fmt.Errorf("--log-format %q: it must be text or json", format)
	}
	return slog.New(h), nil
}

// observe gives a node whose Logger is newLogger's its metrics, those of the log
// among them, and lets the log's level be changed.
func observe(cfg *node.Config) {
	r := newRegistry()
	if h, ok := cfg.Logger.Handler().(logHandler); ok {
		r.MustRegister(h.messages.all)
		cfg.LogLevel = h.level
	}
	cfg.Registerer = r
}

// newRegistry has the metrics of the Go runtime and the process.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// logHandler counts what another handler takes.
type logHandler struct {
	slog.Handler
	level    *slog.LevelVar
	messages *logCounter
}

// Handle implements slog.Handler.
func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if c := h.messages.levels[r.Level]; c != nil {
		c.Inc()
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.Handler = h.Handler.WithAttrs(attrs)
	return h
}

// WithGroup implements slog.Handler.
func (h logHandler) WithGroup(name string) slog.Handler {
	h.Handler = h.Handler.WithGroup(name)
	return h
}

// logCounter counts messages by level.
type logCounter struct {
	all    *prometheus.CounterVec
	levels map[slog.Level]prometheus.Counter
}

func newLogCounter() *logCounter {
	c := &logCounter{
		all: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "raftsman_log_messages_total", Help: "Messages of the process's log, by level."}, []string{"level"}),
		levels: make(map[slog.Level]prometheus.Counter),
	}
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		c.levels[l] = c.all.WithLabelValues(strings.ToLower(l.String()))
	}
	return c
}
