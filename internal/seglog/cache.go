package seglog

import (
	"container/list"
	"sync"
)

// cache keeps the most recently used values within a bound on their cost.
type cache[K comparable, V any] struct {
	retain func(V) // called under the lock for a value that get returns; may be nil
	evict  func(V) // called under the lock for a value that leaves; may be nil

	mu    sync.Mutex
	bound int64
	used  int64
	order *list.List // *cached[K, V], least recently used first
	byKey map[K]*list.Element
}

type cached[K comparable, V any] struct {
	key   K
	value V
	cost  int64
}

func newCache[K comparable, V any](bound int64, retain, evict func(V)) *cache[K, V] {
	if retain == nil {
		retain = func(V) {}
	}
	if evict == nil {
		evict = func(V) {}
	}
	return &cache[K, V]{retain: retain, evict: evict, bound: bound, order: list.New(), byKey: make(map[K]*list.Element)}
}

func (c *cache[K, V]) get(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil {
		return v, false
	}
	c.order.MoveToBack(e)
	v = e.Value.(*cached[K, V]).value
	c.retain(v)
	return v, true
}

func (c *cache[K, V]) has(key K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byKey[key] != nil
}

// add stores v unless the key is taken, and returns (retained) what is stored.
func (c *cache[K, V]) add(key K, v V, cost int64) (stored V, added bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[key]; e != nil {
		c.order.MoveToBack(e)
		stored = e.Value.(*cached[K, V]).value
		c.retain(stored)
		return stored, false
	}
	c.retain(v)
	c.byKey[key] = c.order.PushBack(&cached[K, V]{key, v, cost})
	c.used += cost
	for c.used > c.bound && c.order.Len() > 1 {
		c.removeLocked(c.order.Front())
	}
	return v, true
}

func (c *cache[K, V]) remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[key]; e != nil {
		c.removeLocked(e)
	}
}

// removeIf removes the values whose key satisfies pred.
func (c *cache[K, V]) removeIf(pred func(K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.order.Front(); e != nil; {
		next := e.Next()
		if pred(e.Value.(*cached[K, V]).key) {
			c.removeLocked(e)
		}
		e = next
	}
}

func (c *cache[K, V]) removeLocked(e *list.Element) {
	v := c.order.Remove(e).(*cached[K, V])
	delete(c.byKey, v.key)
	c.used -= v.cost
	c.evict(v.value)
}
