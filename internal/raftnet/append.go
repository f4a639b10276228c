package raftnet

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

const (
	minUnknownPause = 20 * time.Millisecond
	maxUnknownPause = 200 * time.Millisecond
)

// AppendEntries implements raft.Transport. A heartbeat fails at once when the
// peer is down. Any other append waits until the peer is up, sends again when
// the connection breaks under it, and asks again for Options.UnknownRetry when
// the peer does not hold the replica; Interrupt and Close end it.
func (t *Transport) AppendEntries(id raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if isHeartbeat(args) {
		return t.heartbeat(id, args, resp)
	}
	dst, err := parseReplica(id)
	if err != nil {
		return err
	}
	ctx, patient := t.beginAppend(args.Term)
	var unknown unknownPauses
	for {
		err := t.appendOnce(ctx, dst, patient, args, resp)
		switch {
		case err == nil:
			t.progress.noteAppend(dst, args, resp)
			return nil
		case errors.Is(err, ErrBroken) && patient && ctx.Err() == nil:
			// appendOnce waits for the next connection.
		case errors.Is(err, ErrUnknownReplica) && patient && unknown.pause(ctx, t.n.opts.UnknownRetry):
		default:
			return err
		}
	}
}

// beginAppend returns the context of an append of a term, and whether it may
// wait for a peer that is down.
func (t *Transport) beginAppend(term uint64) (ctx context.Context, patient bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sentTerm = max(t.sentTerm, term)
	return t.calls, term > t.quitTerm
}

func (t *Transport) appendOnce(ctx context.Context, dst uint64, patient bool, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	c, err := t.dataConn(ctx, dst, patient)
	if err != nil {
		return err
	}
	id := t.n.nextID.Add(1)
	f, err := encodeAppend(args, id, dst, t.replica)
	if err != nil {
		return err
	}
	reply, err := c.exchange(ctx, f, id, 0, false)
	if err != nil {
		return err
	}
	return decodeResponse(reply, dst, resp)
}

// dataConn returns the connection for appends to a replica. If wait is set it
// waits until this node is healthy and the peer is up.
func (t *Transport) dataConn(ctx context.Context, dst uint64, wait bool) (*conn, error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if gate := t.n.healthGate(); gate != nil {
			if !wait {
				return nil, ErrUnhealthy
			}
			select {
			case <-gate:
			case <-ctx.Done():
			}
			continue
		}
		p, err := t.n.peerOf(dst)
		if err != nil {
			return nil, err
		}
		c, changed, err := p.ready(p.dataSlot(dst))
		if err == nil {
			return c, nil
		}
		if changed == nil || !wait {
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// unknownPauses paces the questions to a node that does not hold a replica yet.
type unknownPauses struct {
	until time.Time
	next  time.Duration
}

// pause waits; false when it is enough.
func (u *unknownPauses) pause(ctx context.Context, most time.Duration) bool {
	now := time.Now()
	if u.until.IsZero() {
		u.until, u.next = now.Add(most), minUnknownPause
	}
	if now.Add(u.next).After(u.until) {
		return false
	}
	t := time.NewTimer(u.next)
	defer t.Stop()
	u.next = min(2*u.next, maxUnknownPause)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// noteAppend records the response to an append.
func (p *progress) noteAppend(peer uint64, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) {
	var match uint64
	if resp.Success {
		match = args.PrevLogEntry + uint64(len(args.Entries))
	}
	p.note(peer, args.Term, match)
}
