package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

const (
	verifyTimeout  = 2 * time.Minute  // for one answer: it may have to read a whole segment
	verifyPatience = 10 * time.Second // for replicas to have applied what others have
	verifyPoll     = 100 * time.Millisecond
	verifyRetries  = 3
	progressEvery  = time.Second
)

// errVerifying says that a node verifies already.
var errVerifying = errors.New("this node runs a verification already: wait for its end, or ask another node")

// verify runs a verification for an operator; see gateway.Options.
func (n *Node) verify(ctx context.Context, options []byte, emit func(event any) error) error {
	var opts VerifyOptions
	if err := json.Unmarshal(options, &opts); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	if !n.verifying.TryLock() {
		return errVerifying
	}
	v := &clusterVerifier{n: n, opts: opts, pace: pace{rate: opts.Rate}, emit: emit, told: time.Now()}
	err := v.run(ctx)
	n.verifying.Unlock() // whoever hears of the end may ask again
	if err != nil {
		return err
	}
	return emit(VerifyEvent{Done: &v.so})
}

// clusterVerifier compares the replicas of all partitions, one partition after
// the other.
type clusterVerifier struct {
	n    *Node
	opts VerifyOptions
	pace pace
	emit func(event any) error
	so   VerifyProgress
	told time.Time
}

func (v *clusterVerifier) run(ctx context.Context) error {
	view := v.n.store.View()
	if view.Source == cluster.SourceNone {
		return errors.New("this node does not know the cluster yet")
	}
	for _, t := range v.opts.Topics {
		if _, ok := view.Topics[t]; !ok {
			return fmt.Errorf("topic %q does not exist; raftsman topic list shows those there are", t)
		}
	}
	var parts []cluster.TopicPartition
	for name, t := range view.Topics {
		if len(v.opts.Topics) > 0 && !slices.Contains(v.opts.Topics, name) {
			continue
		}
		for i := range t.Partitions {
			parts = append(parts, cluster.TopicPartition{Topic: name, Partition: int32(i)})
		}
	}
	slices.SortFunc(parts, func(a, b cluster.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	v.so.Of = len(parts)
	for _, tp := range parts {
		if err := v.partition(ctx, view, tp); err != nil {
			return err
		}
		v.so.Partitions++
		if err := v.progress(); err != nil {
			return err
		}
	}
	return nil
}

// progress tells how far it is, now and then.
func (v *clusterVerifier) progress() error {
	if time.Since(v.told) < progressEvery {
		return nil
	}
	v.told = time.Now()
	so := v.so
	return v.emit(VerifyEvent{Progress: &so})
}

// partition verifies one. An error is the end of the whole verification.
func (v *clusterVerifier) partition(ctx context.Context, view *cluster.View, tp cluster.TopicPartition) error {
	c := &comparison{v: v, tp: tp}
	a, ok := view.Assignments[tp]
	if !ok {
		return c.incomplete(cluster.Replica{}, "it has no replicas yet")
	}
	c.topicID = a.TopicID
	for _, r := range a.Replicas {
		c.replicas = append(c.replicas, &verified{Replica: r})
	}
	v.so.Replicas += len(c.replicas)
	return c.run(ctx)
}

// verified is a replica that is being compared.
type verified struct {
	cluster.Replica
	reply verifyReply // the last
	err   error       // of the last question
	bad   map[int64]bool
	fixed map[int64]string // by segment: what became of the repair
}

// askAll asks all replicas at once. Those that fail again and again are left out
// from then on.
func (c *comparison) askAll(ctx context.Context, request func(*verified) verifyRequest) error {
	for try := range verifyRetries {
		var wg sync.WaitGroup
		for _, r := range c.replicas {
			if try > 0 && r.err == nil {
				continue
			}
			wg.Go(func() {
				q := request(r)
				timeout := verifyTimeout
				if q.Values != nil {
					timeout = valuesTimeout
				}
				ctx, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				q.TopicID, q.Partition, q.Replica = c.topicID, c.tp.Partition, r.ID
				r.reply, r.err = c.v.n.ask(ctx, r.Node, q)
			})
		}
		wg.Wait()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !slices.ContainsFunc(c.replicas, func(r *verified) bool { return r.err != nil }) {
			return nil
		}
		if try < verifyRetries-1 {
			if err := pause(ctx, 5*verifyPoll); err != nil {
				return err
			}
		}
	}
	var left []*verified
	for _, r := range c.replicas {
		if r.err == nil {
			left = append(left, r)
		} else if err := c.incomplete(r.Replica, fmt.Sprintf("it could not be asked: %v", r.err)); err != nil {
			return err
		}
	}
	c.replicas = left
	return nil
}

func (c *comparison) incomplete(r cluster.Replica, reason string) error {
	return c.v.emit(VerifyEvent{Incomplete: &Incomplete{
		Topic: c.tp.Topic, Partition: c.tp.Partition, Node: r.Node, Replica: r.ID, Reason: reason,
	}})
}

// bound asks how far the replicas are, and waits a moment for those behind. The
// range that all have applied begins at from and ends before to.
func (c *comparison) bound(ctx context.Context) (from, to int64, err error) {
	target, began := int64(-1), time.Now()
	for {
		if err := c.askAll(ctx, func(*verified) verifyRequest { return verifyRequest{} }); err != nil || len(c.replicas) == 0 {
			return 0, 0, err
		}
		if target < 0 {
			for _, r := range c.replicas {
				target = max(target, r.reply.HighWatermark)
			}
		}
		from, to = 0, target
		for _, r := range c.replicas {
			from, to = max(from, r.reply.Start), min(to, r.reply.HighWatermark)
		}
		if to == target {
			return from, to, nil
		}
		if time.Since(began) > verifyPatience {
			break
		}
		if err := pause(ctx, verifyPoll); err != nil {
			return 0, 0, err
		}
	}
	for _, r := range c.replicas {
		if hw := r.reply.HighWatermark; hw < target {
			err = errors.Join(err, c.incomplete(r.Replica, fmt.Sprintf(
				"it has applied all before offset %d (raft index %d), others all before %d; only what it has was compared", hw, r.reply.Applied, target)))
		}
	}
	return from, to, err
}
