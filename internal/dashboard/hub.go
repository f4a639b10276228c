package dashboard

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

const (
	maxWatchers = 64
	behind      = 4 // messages that a watcher may leave lying
	maxPoints   = 900
)

// watcher is one who gets messages. It owns taking them from c.
type watcher struct {
	c     chan []byte
	whole bool // the next message has to be the whole state; guarded by hub.mu
}

// hub hands messages to those who watch.
type hub struct {
	wake chan struct{}
	done chan struct{} // closed by close

	mu       sync.Mutex
	closed   bool
	watchers map[*watcher]struct{}
	seq      uint64
	last     items
	points   []Point // the oldest first
	drawn    int     // how many of the last points are in no message yet
}

// join adds a watcher; nil: there are too many, or the node stops.
func (h *hub) join() *watcher {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.watchers) >= maxWatchers {
		return nil
	}
	w := &watcher{c: make(chan []byte, behind), whole: true}
	h.watchers[w] = struct{}{}
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return w
}

func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

// awaited waits until somebody watches; false when ctx has ended.
func (h *hub) awaited(ctx context.Context) bool {
	for !h.watched() {
		select {
		case <-ctx.Done():
			return false
		case <-h.wake:
		}
	}
	return ctx.Err() == nil
}

func (h *hub) watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.watchers) > 0
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.done)
	}
}

// draw adds a point to the lines.
func (h *hub) draw(p Point) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.points = append(h.points, p)
	h.points = h.points[max(0, len(h.points)-maxPoints):]
	h.drawn = min(h.drawn+1, len(h.points))
}

// tell sends a state to all who watch: what has changed, or all of it to those who
// are new or were behind. began is when the making of it began.
func (h *hub) tell(now items, at time.Time, page string, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	m := message{Seq: h.seq, Now: at.UnixMilli(), Points: h.points[len(h.points)-h.drawn:]}
	m.Set, m.Del = diff(h.last, now)
	h.last, h.drawn = now, 0
	m.Within = within(time.Since(began)).Milliseconds()
	var delta, all []byte // made when the first one wants it
	for w := range h.watchers {
		var body []byte
		if w.whole || len(w.c) == cap(w.c) {
			if all == nil {
				all = encode(message{Seq: m.Seq, Reset: true, Now: m.Now, Within: m.Within, Page: page, Set: whole(now), Points: h.points})
			}
			body, w.whole = all, false
			for len(w.c) > 0 { // nobody else sends: there is room then
				select {
				case <-w.c:
				default:
				}
			}
		} else {
			if delta == nil {
				delta = encode(m)
			}
			body = delta
		}
		w.c <- body
	}
}

func encode(m message) []byte {
	body, err := json.Marshal(m)
	if err != nil { // plain structs: can't be
		panic("BUG: dashboard: encode a message: " + err.Error())
	}
	return body
}
