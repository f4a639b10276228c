package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/health"
)

const (
	pollEvery   = time.Second
	pollTimeout = 800 * time.Millisecond // of one node: the next round is not to wait
	pollAtOnce  = 16
	maxFigures  = 256 << 10 // bytes
)

// heard is what a round has brought of a node.
type heard struct {
	node    int32
	figures Figures
	err     error
}

// poll asks all nodes for their figures, each in a limited time. A node that does
// not answer pings is not asked.
func (d *Dashboard) poll(ctx context.Context, nodes []health.Node) []heard {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	results := make([]heard, len(nodes))
	places := make(chan struct{}, pollAtOnce)
	var wg sync.WaitGroup
	for i, n := range nodes {
		results[i].node = n.Node.Node
		switch {
		case n.Node.Node == d.opts.Node():
			results[i].figures, results[i].err = d.figures()
		case !n.Alive:
			results[i].err = errors.New("it does not answer pings")
		default:
			wg.Go(func() {
				select {
				case places <- struct{}{}:
					defer func() { <-places }()
					results[i].figures, results[i].err = d.ask(ctx, n)
				case <-ctx.Done():
					results[i].err = errors.New("there was no time left to ask it")
				}
			})
		}
	}
	wg.Wait()
	return results
}

// ask fetches the figures of another node.
func (d *Dashboard) ask(ctx context.Context, n health.Node) (f Figures, err error) {
	if _, _, err := net.SplitHostPort(n.HTTP); err != nil {
		return f, fmt.Errorf("its HTTP address is %q", n.HTTP)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: "http", Host: n.HTTP, Path: "/api/dashboard/figures"}).String(), nil)
	if err != nil {
		return f, err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return f, fmt.Errorf("%s did not answer within %v", n.HTTP, pollTimeout)
		}
		var why *url.Error
		if errors.As(err, &why) {
			err = why.Err
		}
		return f, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return f, fmt.Errorf("%s answered %s", n.HTTP, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxFigures))
	if err != nil {
		return f, fmt.Errorf("read from %s: %w", n.HTTP, err)
	}
	if err := json.Unmarshal(body, &f); err != nil {
		return f, fmt.Errorf("%s answered what makes no sense: %w", n.HTTP, err)
	}
	if f.Node != n.Node.Node {
		return f, fmt.Errorf("at %s answers node %d", n.HTTP, f.Node)
	}
	return f, nil
}

// figures are this node's, at most figuresFor old.
func (d *Dashboard) figures() (Figures, error) {
	d.own.Lock()
	defer d.own.Unlock()
	if now := d.opts.Now(); now.Sub(d.ownAt) >= figuresFor || now.Before(d.ownAt) {
		f, err := gather(d.opts.Gatherer)
		if err != nil {
			return f, err
		}
		f.Node, f.Winners = d.opts.Node(), d.opts.Winners()
		d.ownFigures, d.ownAt = f, now
	}
	return d.ownFigures, nil
}

const figuresFor = 500 * time.Millisecond
