package kafka

import (
	"context"
	"slices"
	"time"
)

// Reads wait elections out. A new leader serves nothing before the first entry of
// its term was applied, some milliseconds after clients are told its name; and who
// led before does not know the next one for as long. A client that is refused then
// without another leader's name comes back after its back-off at best, and often
// after its next metadata refresh, seconds later.

// asked is a partition that a request is about, and the leader epoch that the
// client knows of; below 0: none.
type asked struct {
	topic string
	index int32
	epoch int32
}

// electing is a partition whose election is under way.
type electing struct {
	Partition
	epoch int32
}

// onceSettled answers a request when no election of the partitions that are asked
// for is under way: now, in the reader, or from a goroutine of its own.
func (s *Server) onceSettled(ctx context.Context, x *exchange, all []asked, answer func()) {
	var waits []electing
	for _, a := range all {
		if p, err := s.partition(a.topic, a.index); err == nil && p.Unsettled(a.epoch) {
			waits = append(waits, electing{p, a.epoch})
		}
	}
	if len(waits) == 0 {
		answer()
		return
	}
	x.conn.wg.Go(func() {
		s.settle(ctx, x.conn.stop, waits)
		answer()
	})
}

// settle returns when the elections of the partitions are over, or take long.
func (s *Server) settle(ctx context.Context, stop <-chan struct{}, parts []electing) {
	limit := time.NewTimer(s.opts.Limits.ElectionWait)
	defer limit.Stop()
	bell := make(ringer, 1)
	for {
		changed := s.backend.TopicsChanged()
		parts = slices.DeleteFunc(parts, func(p electing) bool { return !p.Unsettled(p.epoch) })
		if len(parts) == 0 {
			return
		}
		for _, p := range parts {
			o, _ := p.Offsets()
			p.Watch(bell, o, false)
		}
		again := false
		select {
		case <-bell:
			again = true
		case <-changed:
			again = true
		case <-limit.C:
		case <-stop:
		case <-ctx.Done():
		}
		for _, p := range parts {
			p.Unwatch(bell)
		}
		if !again {
			return
		}
	}
}

// ringer is a Watcher to wait for.
type ringer chan struct{}

func (r ringer) Ring() { signal(r) }
