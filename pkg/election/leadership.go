package election

import (
	"context"
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Leadership is one term of having won. Its methods may be called from any
// goroutine.
type Leadership struct {
	// Token fences the winner's commands.
	Token Token

	session *Session
	name    string
	ctx     context.Context
	cancel  context.CancelCauseFunc

	mu        sync.Mutex
	withdrawn bool // the key is gone, or a goroutine sees to it
}

// Context ends when the leadership does; its cause says why. It carries
// nothing of the context given to Campaign.
func (l *Leadership) Context() context.Context { return l.ctx }

// Session is the session on which the leadership rests.
func (l *Leadership) Session() *Session { return l.session }

// Err says why the leadership is over, nil while it is not.
func (l *Leadership) Err() error { return context.Cause(l.ctx) }

// Valid says whether the leadership lasts at this moment by the clock. A
// process that was stopped past its deadline gets false here, and its context
// is cancelled by the time Valid returns. True is no permission to write to
// anything which does not compare the Token.
func (l *Leadership) Valid() bool { return l.session.Valid() && l.ctx.Err() == nil }

// Resign ends the leadership: its context first, then its key. When the key
// could not be deleted within ctx the error says so, and the session goes on
// trying until the key or the lease is gone. Resigning again, or after the
// leadership was lost, is no error.
func (l *Leadership) Resign(ctx context.Context) error {
	l.cancel(ErrResigned)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.withdrawn || l.session.ctx.Err() != nil {
		return nil
	}
	ctx, cancel := l.session.within(ctx)
	defer cancel()
	l.withdrawn = true
	if err := l.delete(ctx); err != nil {
		l.session.withdrawLater(l.name, l.Token.Key)
		return fmt.Errorf("resign from %s: %w", l.name, err)
	}
	l.session.leave(l.name)
	return nil
}

func (l *Leadership) delete(ctx context.Context) error {
	_, err := l.session.client.Txn(ctx).If(l.Token.Compare()).Then(clientv3.OpDelete(l.Token.Key)).Commit()
	if l.session.ctx.Err() != nil {
		return nil // goes with the lease
	}
	return err
}

// guard watches the own key from revision rev on and ends the leadership
// with it.
func (l *Leadership) guard(rev int64) {
	if l.session.ownKey(l.ctx, l.Token.Key, l.Token.CreateRevision, rev) != nil {
		return // over for another reason
	}
	l.cancel(ErrKeyLost)
	l.session.cfg.Logger.Warn("leadership lost: the key was deleted or overwritten by somebody else",
		"key", l.Token.Key, "create_revision", l.Token.CreateRevision)
	// Somebody may have overwritten it without a lease, and then it would stay
	// for ever: delete what is still the key of this token.
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.withdrawn {
		return
	}
	l.withdrawn = true
	ctx, cancel := context.WithTimeout(l.session.ctx, l.session.ttl/4)
	defer cancel()
	if l.delete(ctx) != nil {
		l.session.withdrawLater(l.name, l.Token.Key)
		return
	}
	l.session.leave(l.name)
}
