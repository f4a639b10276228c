package raftnet

import "time"

// probe sends a ping on a Data connection, and fails the connection when it has
// been silent although something waits for an answer: pings on the Control
// connection do not show that this one leads anywhere. A firewall may have
// forgotten it, and then TCP itself would go on sending for a quarter of an hour.
//
// A raft that is busy answers late, but its node answers pings meanwhile.
func (c *conn) probe(n *Net, now time.Time) (dead bool) {
	patience := probePatience * n.opts.PingTimeout
	heard := epoch.Add(time.Duration(c.heard.Load()))
	if c.waitsSince(now.Add(-patience)) && now.Sub(heard) > patience {
		return true
	}
	if now.Sub(c.probed) < n.opts.PingTimeout {
		return false
	}
	c.probed = now
	id := n.nextID.Add(1)
	f, err := simpleFrame(kindPing, 0, id, 0, 0, make([]byte, 8))
	if err != nil {
		return false
	}
	c.mu.Lock()
	if c.calls != nil {
		c.calls[id] = call{p: probe{}, at: now}
	}
	c.mu.Unlock()
	if c.out.push(f, failFull, nil) != nil { // what fills the queue waits for answers too
		c.take(id)
		f.release()
	}
	return false
}

// probePatience is how many PingTimeouts a Data connection may be silent.
const probePatience = 5

// probe is a ping that waits for its reply.
type probe struct{}

func (probe) keeps() bool           { return false }
func (probe) resolve([]byte, error) {}

// waitsSince says whether a request was sent before then that has no answer.
func (c *conn) waitsSince(then time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.calls {
		if call.at.Before(then) {
			return true
		}
	}
	return false
}
