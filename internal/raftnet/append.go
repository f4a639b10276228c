package raftnet

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

const (
	minUnknownPause = 20 * time.Millisecond
	maxUnknownPause = 2 * time.Second
)

// AppendEntries implements raft.Transport. It waits until the peer is up, sends again when
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
	if err := t.pace(ctx, dst, args.Entries); err != nil {
		return err
	}
	var unknown unknownPauses
	for {
		err := t.appendOnce(ctx, dst, patient, args, resp)
		switch {
		case err == nil:
			t.progress.noteAppend(dst, args, resp)
			return nil
		case errors.Is(err, ErrBroken) && patient && ctx.Err() == nil:
			// appendOnce waits for the next connection.
		case errors.Is(err, ErrUnknownReplica) && patient && unknown.within(t.n.opts.UnknownRetry) && t.awaitReplica(ctx, dst, args.Term, unknown.pause()):
		default:
			return err
		}
	}
}

func (t *Transport) appendOnce(ctx context.Context, dst uint64, patient bool, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	c, err := t.dataConn(ctx, dst, args.Term, patient)
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

// dataConn returns the connection for appends of a term to a replica. If wait is
// set it waits until this node is healthy and the peer is up.
func (t *Transport) dataConn(ctx context.Context, dst, term uint64, wait bool) (c *conn, err error) {
	err = t.await(ctx, dst, term, wait, func(p *peer) (changed <-chan struct{}, err error) {
		c, changed, err = p.ready(p.dataSlot(dst))
		return changed, err
	})
	return c, err
}

// unknownPauses paces the questions to a node that does not hold a replica yet.
type unknownPauses struct {
	since time.Time
	next  time.Duration
}

// within is false when it is enough.
func (u *unknownPauses) within(most time.Duration) bool {
	now := time.Now()
	if u.since.IsZero() {
		u.since = now
	}
	return now.Sub(u.since)+u.next <= most
}

// pause is how long to wait now.
func (u *unknownPauses) pause() time.Duration {
	now := max(u.next, minUnknownPause)
	u.next = min(2*now, maxUnknownPause)
	return now
}

// noteAppend records the response to an append.
func (p *progress) noteAppend(peer uint64, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) {
	var match uint64
	if resp.Success {
		match = args.PrevLogEntry + uint64(len(args.Entries))
	}
	p.note(peer, args.Term, match, min(match, args.LeaderCommitIndex))
}
