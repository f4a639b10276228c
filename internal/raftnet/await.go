package raftnet

import (
	"context"
	"time"
)

// await returns nil once a replica's peer is ready as asked, or why it is not.
// If wait is set it waits for that, and until this node is healthy.
func (t *Transport) await(ctx context.Context, dst, term uint64, wait bool, ready func(*peer) (changed <-chan struct{}, err error)) error {
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		gate, changed := t.n.healthGate(), (<-chan struct{})(nil)
		if gate != nil && !wait {
			return ErrUnhealthy
		}
		if gate == nil {
			p, err := t.n.peerOf(dst)
			if err != nil {
				return err
			}
			if changed, err = ready(p); err == nil || changed == nil || !wait {
				return err
			}
		}
		news, gone := t.signal(dst, term)
		if gone {
			return ErrRemoved
		}
		select {
		case <-gate:
		case <-changed:
		case <-news:
		case <-ctx.Done():
		}
	}
}

// awaitReplica waits a while for a replica that its node does not hold. It
// returns false when there is nothing to wait for any more.
func (t *Transport) awaitReplica(ctx context.Context, dst, term uint64, pause time.Duration) bool {
	news, gone := t.signal(dst, term)
	if gone {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-news:
		return true
	case <-ctx.Done():
		return false
	}
}

// signal returns a channel that is closed at the next news of a peer, and
// whether the peer was removed in a term or later.
func (t *Transport) signal(peer, term uint64) (news <-chan struct{}, gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if removed, ok := t.gone[peer]; ok && removed >= term {
		return nil, true
	}
	s := t.signals[peer]
	if s == nil {
		s = make(chan struct{})
		t.signals[peer] = s
	}
	return s, false
}

// Appeared ends the pauses of calls to a peer whose node did not hold it: it was
// heard from.
func (t *Transport) Appeared(peer uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wakeLocked(peer)
}

// Forget ends the calls that wait for a peer: it was removed from the group, in
// a term in which this replica led. Raft does not end them.
func (t *Transport) Forget(peer, term uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone[peer] = term
	t.wakeLocked(peer)
}

func (t *Transport) wakeLocked(peer uint64) {
	if s := t.signals[peer]; s != nil {
		close(s)
		delete(t.signals, peer)
	}
}
