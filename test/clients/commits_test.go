package clients

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// commits watches committed offsets, which must never go back.
type commits struct {
	mu     sync.Mutex
	groups map[string]map[string]int64 // by topic/partition
	errs   map[string]error
	looks  map[string]int
	stop   func() // ends the watch and waits for its end
}

func watchCommits(t testing.TB, c *cluster) *commits {
	t.Helper()
	w := &commits{groups: map[string]map[string]int64{}, errs: map[string]error{}, looks: map[string]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	w.stop = func() { cancel(); <-done }
	t.Cleanup(w.stop)
	go func() {
		defer close(done)
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for _, g := range w.names() {
				w.look(ctx, c, g)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return w
}

func (w *commits) add(group string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.groups[group] = map[string]int64{}
}

func (w *commits) names() (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for g := range w.groups {
		out = append(out, g)
	}
	return out
}

func (w *commits) look(ctx context.Context, c *cluster, group string) {
	bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	offsets, err := c.adm.FetchOffsets(bounded, group)
	if err != nil {
		return // while a coordinator is away
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.groups[group]
	w.looks[group]++
	now := map[string]int64{}
	for _, o := range offsets.Offsets().Sorted() {
		now[fmt.Sprintf("%s/%d", o.Topic, o.Partition)] = o.At
	}
	for tp, before := range seen {
		if at, ok := now[tp]; !ok || at < before {
			w.errs[group] = errors.Join(w.errs[group], fmt.Errorf("the committed offset of %s went from %d to %d (there: %v)", tp, before, at, ok))
		}
	}
	w.groups[group] = now
}

// wentBack is what was seen to be wrong with a group.
func (w *commits) wentBack(group string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looks[group] == 0 {
		return errors.New("the committed offsets were never seen")
	}
	return w.errs[group]
}
