package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// A reading of a soak: what nodes hold, and how fast they were since the last one.
type watched struct {
	At         float64 `json:"at"` // seconds
	Rate       float64 `json:"rate"`
	P99        float64 `json:"p99_ms"`
	MiB        float64 `json:"mib"`                  // resident, all nodes
	Goroutines float64 `json:"goroutines,omitempty"` // all nodes; where they tell
}

// soak runs at full speed for long.
func soak(ctx context.Context, e *env) (figures, error) {
	l, err := startLoad(ctx, e, loading{window: e.cfg.window, clients: e.cfg.clients})
	if err != nil {
		return nil, err
	}
	defer l.close()
	if err := pass(ctx, e.cfg.warm); err != nil {
		return nil, err
	}
	var seen []watched
	began, n := time.Now(), l.acked.Load()
	every := max(e.cfg.soak/60, time.Second)
	err = e.measure(func() error {
		for last := began; time.Since(began) < e.cfg.soak; {
			h, before := new(histogram), l.acked.Load()
			l.latency.Store(h)
			if err := pass(ctx, every); err != nil {
				return err
			}
			now := time.Now()
			w := watched{At: now.Sub(began).Seconds(), Rate: float64(l.acked.Load()-before) / now.Sub(last).Seconds(), P99: millis(h.quantile(0.99))}
			last = now
			if err := w.look(ctx, e.ps.nodes()); err != nil {
				return err
			}
			seen = append(seen, w)
			fmt.Fprintf(os.Stderr, "soak of %s: %v of %v, %.0f messages/s, p99 %.1f ms, %.0f MiB, %.0f goroutines\n",
				e.system.name, time.Since(began).Round(time.Second), e.cfg.soak, w.Rate, w.P99, w.MiB, w.Goroutines)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	f := e.perMessage(max(1, l.acked.Load()-n))
	for k, v := range trends(seen) {
		f[k] = v
	}
	return f, l.finish(ctx)
}

// look reads what nodes hold.
func (w *watched) look(ctx context.Context, nodes []*process) error {
	for _, p := range nodes {
		b, err := p.resident()
		if err != nil {
			return err
		}
		w.MiB += b / (1 << 20)
		if p.metrics == "" {
			continue
		}
		n, err := goroutines(ctx, p.metrics)
		if err != nil {
			return err
		}
		w.Goroutines += n
	}
	return nil
}

// goroutines asks a process's metrics.
func goroutines(ctx context.Context, url string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("%s has no go_goroutines", url)
}

// trends compares the last sixth of a soak with the first: of an hour ten minutes.
func trends(seen []watched) figures {
	part := max(1, len(seen)/6)
	first, last := seen[:part], seen[len(seen)-part:]
	of := func(ws []watched, f func(watched) float64) float64 {
		var values []float64
		for _, w := range ws {
			values = append(values, f(w))
		}
		return median(values)
	}
	figs := make(figures)
	for name, f := range map[string]func(watched) float64{
		"p99_ms": func(w watched) float64 { return w.P99 }, "rate": func(w watched) float64 { return w.Rate },
		"mib": func(w watched) float64 { return w.MiB }, "goroutines": func(w watched) float64 { return w.Goroutines },
	} {
		a, b := of(first, f), of(last, f)
		figs[name+".first"], figs[name+".last"] = a, b
		if a > 0 {
			figs[name+".growth"] = b / a
		}
	}
	return figs
}
