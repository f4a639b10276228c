package kafka

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// sessionCache has the fetch sessions of all clients: at most slots of them
// (Kafka's max.incremental.fetch.session.cache.slots), in at most so much memory.
//
// When there is no room a new session takes that of another one by Kafka's rules:
// of the one that was used least recently, if that is more than two minutes ago;
// else of the smallest that has been there for two minutes, if it has fewer
// partitions than the new one. Else the new client gets none.
type sessionCache struct {
	slots  int
	memory int64
	now    func() time.Time

	mu      sync.Mutex
	byID    map[int32]*fetchSession
	used    int64 // bytes
	parts   int
	evicted int64
}

// booking is what the cache knows of a session. It is guarded by the cache's mu.
type booking struct {
	epoch   int32 // of the next fetch
	size    int   // partitions
	bytes   int64
	created time.Time
	touched time.Time
	gone    bool
}

// sessionRest is how long a session must have been there, or unused, to make way.
const sessionRest = 2 * time.Minute

func newSessionCache(slots int, memory int64, now func() time.Time) *sessionCache {
	return &sessionCache{slots: slots, memory: memory, now: now, byID: make(map[int32]*fetchSession)}
}

// add makes a session of a full fetch's partitions, whose token the fetch has. It
// returns nil when there is no room.
func (c *sessionCache) add(op *fetchOp) *fetchSession {
	f := &fetchSession{ids: op.x.version >= 13, round: firstRound, token: make(chan struct{}, 1), parts: op.parts, bell: op.bell,
		byKey: make(map[partKey]*fetchPart, len(op.parts))}
	if f.bell == nil {
		f.bell = make(chan struct{}, 1)
	}
	for _, p := range f.parts {
		p.told()
		f.bytes += p.weight()
	}
	f.size, f.epoch = len(f.parts), 1
	c.mu.Lock()
	var removed []*fetchSession
	ok := c.roomLocked(f, &removed)
	if ok {
		f.created = c.now()
		f.touched = f.created
		for f.id == 0 || c.byID[f.id] != nil {
			f.id = rand.Int32N(math.MaxInt32-1) + 1
		}
		c.byID[f.id] = f
		c.used, c.parts = c.used+f.bytes, c.parts+f.size
	}
	c.mu.Unlock()
	for _, old := range removed {
		old.bury()
	}
	if !ok {
		return nil
	}
	for _, p := range f.parts {
		f.byKey[p.key()] = p
	}
	return f
}

// roomLocked removes sessions until f fits, and says whether it does.
func (c *sessionCache) roomLocked(f *fetchSession, removed *[]*fetchSession) bool {
	if c.slots <= 0 || f.bytes > c.memory {
		return false
	}
	for len(c.byID) >= c.slots || c.used+f.bytes > c.memory {
		old := c.victimLocked(f.size)
		if old == nil {
			return false
		}
		c.removeLocked(old)
		c.evicted++
		*removed = append(*removed, old)
	}
	return true
}

// victimLocked is the session that makes way for one of size partitions.
func (c *sessionCache) victimLocked(size int) *fetchSession {
	var stalest, smallest *fetchSession
	for _, f := range c.byID {
		if stalest == nil || f.touched.Before(stalest.touched) {
			stalest = f
		}
		old := f.touched.Sub(f.created) > sessionRest
		if old && (smallest == nil || f.size < smallest.size || f.size == smallest.size && f.id < smallest.id) {
			smallest = f
		}
	}
	switch {
	case stalest != nil && c.now().Sub(stalest.touched) > sessionRest:
		return stalest
	case smallest != nil && smallest.size < size:
		return smallest
	}
	return nil
}

// resume finds the session of an incremental fetch, and counts it.
func (c *sessionCache) resume(id, epoch int32, ids bool) (*fetchSession, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.byID[id]
	switch {
	case f == nil:
		return nil, kerr.FetchSessionIDNotFound
	case f.epoch != epoch:
		return nil, kerr.InvalidFetchSessionEpoch
	case f.ids != ids:
		return nil, kerr.FetchSessionTopicIDError
	}
	if f.epoch++; f.epoch < 0 {
		f.epoch = 1
	}
	f.touched = c.now()
	return f, nil
}

// grow books partitions that a session takes in.
func (c *sessionCache) grow(f *fetchSession, n int, bytes int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !f.gone {
		if c.used+bytes > c.memory {
			return false
		}
		c.used, c.parts = c.used+bytes, c.parts+n
	}
	f.size, f.bytes = f.size+n, f.bytes+bytes
	return true
}

func (c *sessionCache) shrink(f *fetchSession, n int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !f.gone {
		c.used, c.parts = c.used-bytes, c.parts-n
	}
	f.size, f.bytes = f.size-n, f.bytes-bytes
}

// remove ends a session, if it is there.
func (c *sessionCache) remove(id int32) {
	c.mu.Lock()
	f := c.byID[id]
	if f != nil {
		c.removeLocked(f)
	}
	c.mu.Unlock()
	if f != nil {
		f.bury()
	}
}

func (c *sessionCache) removeLocked(f *fetchSession) {
	delete(c.byID, f.id)
	f.gone = true
	c.used, c.parts = c.used-f.bytes, c.parts-f.size
}

func (c *sessionCache) isGone(f *fetchSession) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f.gone
}

// clear ends all sessions.
func (c *sessionCache) clear() {
	c.mu.Lock()
	var all []*fetchSession
	for _, f := range c.byID {
		c.removeLocked(f)
		all = append(all, f)
	}
	c.mu.Unlock()
	for _, f := range all {
		f.bury()
	}
}

// counts are the sessions, their partitions, and how many had to make way.
func (c *sessionCache) counts() (sessions, parts, evicted int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.byID)), int64(c.parts), c.evicted
}
