package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/pkg/election"
)

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
	// forgetInterval is how often old tombstones are looked for while nothing
	// else happens.
	forgetInterval = time.Hour
	viewTimeout    = 10 * time.Second
	// A plan that took long is followed by a rest of planShare times as long, but
	// of maxRest at most: nodes report at any time.
	planShare = 10
	maxRest   = time.Second
)

// Run is one term of the winner. It returns nil when ctx or the leadership
// ends, and ErrFenced when etcd refused it because another node has won.
func Run(ctx context.Context, l *election.Leadership, store *cluster.Store, opts Options, logger *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(l.Context(), func() { cancel(l.Err()) })
	defer stop()
	t := &term{
		token: l.Token, store: store, logger: logger, valid: l.Valid,
		fenced: store.Fenced(l.Token), blocked: map[string]bool{}, opts: opts,
		away: map[int32]time.Time{}, written: map[string]time.Time{},
	}
	logger.Info("this node is the winner", "key", l.Token.Key, "revision", l.Token.CreateRevision)
	err := t.run(ctx)
	if cause := l.Err(); errors.Is(cause, election.ErrExpired) || errors.Is(cause, election.ErrLeaseGone) || errors.Is(cause, election.ErrKeyLost) {
		t.confirm(context.WithoutCancel(ctx))
	}
	logger.Info("this node is no longer the winner", "cause", context.Cause(ctx), "err", err)
	return err
}

type term struct {
	token   election.Token
	store   *cluster.Store
	logger  *slog.Logger
	valid   func() bool
	fenced  *cluster.Fenced
	opts    Options
	blocked map[string]bool // what is blocked and has been logged
	// away is since when nodes that hold replicas are not registered, as far as
	// this term has seen.
	away    map[int32]time.Time
	written map[string]time.Time // when operations were written
}

func (t *term) run(ctx context.Context) error {
	wake, cancel := t.store.Subscribe()
	defer cancel()
	pause := minBackoff
	for ctx.Err() == nil && t.valid() {
		wait, began := forgetInterval, time.Now()
		if view := t.store.View(); t.ready(view) {
			switch rev, err := t.round(ctx, view); {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, cluster.ErrFenced):
				return err
			case err != nil:
				t.logger.Warn("the winner's round failed, trying again", "err", err)
				sleep(ctx, pause/2+rand.N(pause/2+1))
				pause = min(2*pause, maxBackoff)
				continue
			case rev > 0:
				pause = minBackoff
				t.await(ctx, rev)
				continue
			}
			pause = minBackoff
			wait = t.nap(view, time.Now())
			sleep(ctx, min(planShare*time.Since(began), maxRest))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// ready says whether a view may be acted on: it is etcd's, nothing is frozen,
// and it shows this leadership, and with it all that was written before.
func (t *term) ready(view *cluster.View) bool {
	return view.Source == cluster.SourceEtcd && view.Frozen == "" &&
		view.Winner != nil && view.Winner.Key == t.token.Key && view.Winner.CreateRevision == t.token.CreateRevision
}

// round plans and writes once. rev is 0 when there was nothing to write.
func (t *term) round(ctx context.Context, view *cluster.View) (rev int64, err error) {
	var changes []Change
	blocked := map[string]bool{}
	now := time.Now()
	t.watchAway(view, now)
	facts := Facts{Options: t.opts, Now: now, Away: t.away, Written: t.written}
	if t.opts.SystemTopics != nil {
		facts.Replicas = t.opts.SystemTopics(view)
	}
	plan := Plan(view, facts)
	for _, c := range append(plan, Forget(view, now)...) {
		if c.Kind != cluster.Blocked {
			changes = append(changes, c)
			continue
		}
		line := c.String()
		blocked[line] = true
		if !t.blocked[line] {
			t.logger.Warn("blocked", factsOf(c)...)
		}
	}
	t.blocked = blocked
	if len(changes) == 0 {
		return 0, nil
	}
	for _, c := range changes {
		if c.Kind == cluster.WriteOp && c.Op.State == view.Ops[c.OpID].State {
			t.logger.Debug("progress", factsOf(c)...)
			continue
		}
		t.logger.Info("decided", append([]any{"change", c.Kind.String()}, factsOf(c)...)...)
	}
	rev, err = t.fenced.Apply(ctx, changes)
	t.reportFenced(err, "changes", len(changes), "first", changes[0].String())
	if err != nil {
		return rev, fmt.Errorf("apply %d changes: %w", len(changes), err)
	}
	for _, c := range changes {
		switch c.Kind {
		case cluster.WriteOp:
			t.written[c.OpID] = now
		case cluster.ForgetOp:
			delete(t.written, c.OpID)
		}
	}
	return rev, nil
}

// watchAway notes which nodes that hold replicas are not registered.
func (t *term) watchAway(view *cluster.View, now time.Time) {
	missing := map[int32]bool{}
	for _, a := range view.Assignments {
		for _, r := range a.Replicas {
			if _, up := view.Nodes[r.Node]; !up {
				missing[r.Node] = true
			}
		}
	}
	for id := range t.away {
		if missing[id] {
			continue
		}
		if _, up := view.Nodes[id]; up {
			t.logger.Info("a node that was away is back", "node", id)
		}
		delete(t.away, id)
	}
	for id := range missing {
		if _, known := t.away[id]; !known {
			t.away[id] = now
			t.logger.Warn("a node that holds replicas is away", "node", id, "rebuilt_after", t.opts.RebuildDelay)
		}
	}
}

// nap is how long nothing has to be looked at unless the view changes: until a
// node has been away for long enough, or an operation may be written again.
func (t *term) nap(view *cluster.View, now time.Time) time.Duration {
	nap := forgetInterval
	for _, op := range view.Ops {
		if !op.State.Final() {
			nap = opWriteInterval
		}
	}
	for _, since := range t.away {
		if left := since.Add(t.opts.RebuildDelay).Sub(now); t.opts.RebuildDelay >= 0 && left > 0 {
			nap = min(nap, left)
		}
	}
	return nap
}

// confirmTimeout bounds the last transaction of a term that has ended.
const confirmTimeout = 2 * time.Second

// confirm sends a transaction that changes nothing with the token of a
// leadership that was lost by its lease: the log then says that etcd refuses
// it, and who has won.
func (t *term) confirm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	t.reportFenced(t.fenced.Probe(ctx), "changes", 0)
}

// reportFenced logs a transaction that etcd refused because of its token.
func (t *term) reportFenced(err error, kv ...any) {
	var fenced *cluster.FencedError
	if !errors.As(err, &fenced) {
		return
	}
	winner, node := int64(0), int32(0)
	if fenced.Winner != nil {
		winner, node = fenced.Winner.CreateRevision, fenced.Winner.Node
	}
	t.logger.Warn("transaction refused: this node's leadership is over",
		append(kv, "token_revision", fenced.Token.CreateRevision, "winner", node, "winner_revision", winner)...)
}

// factsOf are a change's keys for the log.
func factsOf(c Change) []any {
	switch {
	case c.Kind == cluster.Forget:
		return []any{"topic_id", c.TopicID, "reason", c.Reason}
	case c.Kind == cluster.WriteOp:
		return opFacts(c)
	case c.Kind == cluster.ForgetOp:
		return []any{"op", c.OpID}
	case c.Kind == cluster.WriteWish || c.Kind == cluster.DropWish:
		return []any{"node", c.Node, "state", c.Wish.State}
	case c.TP.Topic == "":
		return []any{"reason", c.Reason}
	case c.Kind == cluster.Enlarge:
		return []any{"topic", c.TP.Topic, "replicas", c.Topic.ReplicationFactor, "reason", c.Reason}
	case c.TP.Partition < 0:
		return []any{"topic", c.TP.Topic, "reason", c.Reason}
	}
	kv := []any{"topic", c.TP.Topic, "partition", c.TP.Partition}
	if c.Kind == cluster.Place || c.Kind == cluster.Replace {
		kv = append(kv, "replicas", cluster.FormatReplicas(c.Assignment.Replicas), "generation", c.Assignment.Generation)
	}
	if c.Reason != "" {
		kv = append(kv, "reason", c.Reason)
	}
	return kv
}

func opFacts(c Change) []any {
	kv := []any{"op", c.OpID, "kind", c.Op.Kind, "state", c.Op.State}
	switch c.Op.Kind {
	case cluster.OpMove, cluster.OpTransfer:
		kv = append(kv, "topic", c.Op.Topic, "partition", c.Op.Partition)
	default:
		kv = append(kv, "node", c.Op.Node)
	}
	if p := c.Op.Progress; p != nil {
		kv = append(kv, "done", p.Done, "total", p.Total)
	}
	if c.Reason != "" {
		kv = append(kv, "reason", c.Reason)
	}
	return kv
}

// await waits until the view contains a revision, or for long enough: a plan
// on an old view is refused, not wrong.
func (t *term) await(ctx context.Context, rev int64) {
	ctx, cancel := context.WithTimeout(ctx, viewTimeout)
	defer cancel()
	t.store.WaitFor(ctx, func(v *cluster.View) bool { return v.Revision >= rev || v.Frozen != "" })
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
