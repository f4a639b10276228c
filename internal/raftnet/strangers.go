package raftnet

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// maxHandshakes is how many accepted connections may be shaking hands, and
	// maxHostHandshakes how many of them from one address: a scanner leaves room
	// for the peers.
	maxHandshakes     = 256
	maxHostHandshakes = 64

	strangerInterval = time.Minute // between log lines about one address
	strangerHosts    = 256         // that are remembered
)

// doorway counts handshakes under way, and keeps the log quiet about strangers.
type doorway struct {
	mu      sync.Mutex
	total   int
	byHost  map[string]int
	told    map[string]time.Time // last log line about an address
	refused int                  // connections closed unheard, ever
}

func newDoorway() *doorway {
	return &doorway{byHost: make(map[string]int), told: make(map[string]time.Time)}
}

func hostOf(nc net.Conn) string {
	host, _, err := net.SplitHostPort(nc.RemoteAddr().String())
	if err != nil {
		return nc.RemoteAddr().String()
	}
	return host
}

// enter takes a place for a handshake with host, if there is one.
func (d *doorway) enter(host string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.total >= maxHandshakes || d.byHost[host] >= maxHostHandshakes {
		d.refused++
		return false
	}
	d.total++
	d.byHost[host]++
	return true
}

func (d *doorway) leave(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total--
	if d.byHost[host]--; d.byHost[host] == 0 {
		delete(d.byHost, host)
	}
}

// mayTell says whether a line about host may be logged now.
func (d *doorway) mayTell(host string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last, ok := d.told[host]; ok && now.Sub(last) < strangerInterval {
		return false
	}
	if len(d.told) >= strangerHosts {
		for h, last := range d.told {
			if now.Sub(last) >= strangerInterval {
				delete(d.told, h)
			}
		}
		if len(d.told) >= strangerHosts {
			return false
		}
	}
	d.told[host] = now
	return true
}

// turnedDown logs a handshake that failed. A refused node has been told why, and
// logs it; a connection without a word is a probe.
func (n *Net) turnedDown(nc net.Conn, err error) {
	var refused *refusedError
	if errors.As(err, &refused) || errors.Is(err, io.EOF) || n.ctx.Err() != nil || !n.door.mayTell(hostOf(nc), time.Now()) {
		n.opts.Logger.Debug("turned a connection down", "remote", nc.RemoteAddr(), "err", err)
		return
	}
	n.opts.Logger.Warn("a stranger on the peer port was turned away; only raftsman nodes connect here, Kafka clients to --kafka-addr and HTTP to --http-addr",
		"remote", nc.RemoteAddr(), "err", err)
}
