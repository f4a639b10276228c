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
	// linger is how long after the last one has left messages are made: a page that
	// is loaded again, or a program that asks each second, finds what was measured.
	linger = 5 * time.Second
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
	left     time.Time // when one left last
	last     items     // nil before the first
	made     message   // the last one, without what it brought
	madeAt   time.Time
	points   []Point // the oldest first
	drawn    int     // how many of the last points are in no message yet
}

// join adds a watcher, who gets the last state if that is of now, else the next;
// nil: there are too many, or the node stops.
func (h *hub) join() *watcher {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.watchers) >= maxWatchers {
		return nil
	}
	w := &watcher{c: make(chan []byte, behind), whole: true}
	h.watchers[w] = struct{}{}
	if age := time.Since(h.madeAt); h.last != nil && age < time.Duration(h.made.Within)*time.Millisecond {
		m := h.made
		m.Reset, m.Age, m.Set, m.Points = true, age.Milliseconds(), whole(h.last), h.points[:len(h.points)-h.drawn]
		w.c <- encode(m)
		w.whole = false
	}
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
	h.left = time.Now()
}

// watched says whether somebody watches, or did just now.
func (h *hub) watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.watchers) > 0 || !h.left.IsZero() && time.Since(h.left) < linger
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
	h.made = message{Seq: h.made.Seq + 1, Now: at.UnixMilli(), Within: within(time.Since(began)).Milliseconds(), Page: page}
	h.madeAt = time.Now()
	changes := h.made
	changes.Set, changes.Del = diff(h.last, now)
	changes.Points = h.points[len(h.points)-h.drawn:]
	h.last, h.drawn = now, 0
	var delta, all []byte // made when the first one wants it
	for w := range h.watchers {
		var body []byte
		if w.whole || len(w.c) == cap(w.c) {
			if all == nil {
				m := h.made
				m.Reset, m.Set, m.Points = true, whole(now), h.points
				all = encode(m)
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
				delta = encode(changes)
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
