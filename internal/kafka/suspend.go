package kafka

import (
	"errors"
	"net"
)

var errSuspended = errors.New("the node can't serve now")

// Suspend cuts all connections, and new ones as they come, until Resume: clients
// turn to the other nodes at once instead of waiting for answers that this one
// can't give. What they had sent may still take effect.
func (s *Server) Suspend() {
	s.mu.Lock()
	s.suspended = true
	s.mu.Unlock()
	for _, c := range s.open() {
		c.abort(errSuspended)
	}
}

// reset makes the coming Close of a connection a reset instead of an orderly end.
// Connections that end before their first answer, that to ApiVersions aside (the
// node stops, or can't serve), end so: clients take an orderly end there for a
// sign of wrong security settings, and some then give up (franz-go fails an
// idempotent producer). It is set from the start, since a process that dies
// closes nothing itself.
func reset(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		tc.SetLinger(0)
	}
}

// Resume lets clients come again.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspended = false
}

// orderly takes reset back: what is still to be sent is not lost by Close.
func orderly(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		tc.SetLinger(-1)
	}
}
