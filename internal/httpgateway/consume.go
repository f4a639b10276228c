package httpgateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
)

const (
	giveUpAfter = 30 * time.Second // without a replica to read a partition from
	readAgain   = 100 * time.Millisecond
	maxRead     = 1000 // partitions of one request
	commitEvery = time.Second
	finalCommit = 5 * time.Second
)

// reading is one client's reading of some partitions of a topic. Those of one node
// are read together (unit), and go on elsewhere when that ends.
type reading struct {
	g     *Gateway
	topic string
	hops  int
	text  bool
	// emit hands records on, one at a time; an error ends the reading.
	emit func(*v1.ConsumeResponse) error
	most int64 // records; 0: no limit
	// enough, if there is one, says after each emit whether that was all, under mu.
	enough func() bool
	// until has the offsets where the reading ends; nil: it does not.
	until map[int32]int64

	mu   sync.Mutex // held while emit runs
	next map[int32]int64
	seen map[int32]bool // partitions that have been told of
	sent int64
	over error // why the reading ends
}

// unit is a node that some partitions are read from.
type unit struct {
	node  int32
	parts []int32
	err   error
}

// errEnough ends a reading that has all that was wanted.
var errEnough = errors.New("that is all")

// run reads until the client has enough, ctx ends, or a partition can't be read.
func (r *reading) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.done() {
		return nil
	}
	ended, active := make(chan unit), 0
	defer func() {
		cancel()
		for ; active > 0; active-- {
			<-ended
		}
	}()
	idle := slices.Sorted(maps.Keys(r.next))
	since := make(map[int32]time.Time) // when a partition lost its reader, and made no progress
	var last error
	for {
		changed := r.g.backend.TopicsChanged()
		groups, left, err := r.spread(idle)
		if err != nil {
			return err
		}
		idle = left
		for node, parts := range groups {
			active++
			go func() {
				u := unit{node: node, parts: parts}
				u.err = r.read(ctx, node, parts)
				ended <- u
			}()
		}
		for _, p := range idle {
			if at, ok := since[p]; !ok {
				since[p] = time.Now()
			} else if time.Since(at) > giveUpAfter {
				return refuse(connect.CodeUnavailable, "topic %s, partition %d: no replica in sync can be reached: %v", r.topic, p, last)
			}
		}
		again := time.NewTimer(giveUpAfter)
		if len(idle) > 0 {
			again.Reset(readAgain)
		} else {
			changed = nil
		}
		select {
		case u := <-ended:
			active--
			if over := r.why(); over != nil {
				again.Stop()
				return ignoreEnough(over)
			}
			if judged(u.err) {
				again.Stop()
				return u.err
			}
			if u.err != nil {
				last = u.err
				r.g.peers.bar(u.node)
				r.g.log.Debug("a reader of the HTTP gateway goes elsewhere", "node", u.node, "topic", r.topic, "err", u.err)
			}
			idle = append(idle, u.parts...)
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return ctx.Err()
		}
		again.Stop()
		for p := range since {
			if !slices.Contains(idle, p) {
				delete(since, p)
			}
		}
	}
}

func ignoreEnough(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// spread chooses a node for each partition; left are those that have none now.
func (r *reading) spread(parts []int32) (groups map[int32][]int32, left []int32, err error) {
	if len(parts) == 0 {
		return nil, nil, nil
	}
	info, err := r.g.topic(r.topic)
	if err != nil {
		return nil, nil, err
	}
	groups = make(map[int32][]int32)
	for _, p := range parts {
		if int(p) >= len(info.Partitions) {
			return nil, nil, refuse(connect.CodeNotFound, "topic %q has no partition %d", r.topic, p)
		}
		node := r.g.peers.choose(info.Partitions[p].ISR, r.hops < maxHops)
		if node == 0 {
			left = append(left, p)
			continue
		}
		groups[node] = append(groups[node], p)
	}
	return groups, left, nil
}

func (r *reading) read(ctx context.Context, node int32, parts []int32) error {
	if node == r.g.backend.NodeID() {
		return r.readHere(ctx, parts)
	}
	return r.readThere(ctx, node, parts)
}

// readThere reads partitions from another node's gateway.
func (r *reading) readThere(ctx context.Context, node int32, parts []int32) error {
	client, err := r.g.peers.records(node)
	if err != nil {
		return err
	}
	ctx, cancel := r.g.peers.whileAlive(ctx, node)
	defer cancel()
	slow, stop := context.WithCancel(ctx)
	defer stop()
	late := time.AfterFunc(firstReply, stop)
	defer late.Stop()
	stream, err := client.Consume(slow, forwarded(&v1.ConsumeRequest{
		Topic: r.topic, Partitions: parts, Text: r.text,
		Position: &v1.Position{From: &v1.Position_Offsets{Offsets: &v1.Offsets{Offsets: r.positions(parts)}}},
	}, r.hops))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		late.Stop()
		if err := r.take(stream.Msg()); err != nil {
			return nil // the reading is over
		}
	}
	if err := stream.Err(); err != nil {
		if ctx.Err() != nil && context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		if slow.Err() != nil {
			return fmt.Errorf("node %d takes more than %s to begin", node, firstReply)
		}
		return err
	}
	return fmt.Errorf("node %d has ended the stream", node)
}

// positions are where partitions go on.
func (r *reading) positions(parts []int32) map[int32]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := make(map[int32]int64, len(parts))
	for _, p := range parts {
		at[p] = r.next[p]
	}
	return at
}

// take hands records on to the client; an error says that the reading is over.
func (r *reading) take(resp *v1.ConsumeResponse) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over != nil {
		return r.over
	}
	at, ours := r.next[resp.Partition]
	if !ours {
		return nil
	}
	for len(resp.Records) > 0 && resp.Records[0].Offset < at {
		resp.Records = resp.Records[1:]
	}
	if until, ok := r.until[resp.Partition]; ok && resp.Next > until {
		n := len(resp.Records)
		for n > 0 && resp.Records[n-1].Offset >= until {
			n--
		}
		resp.Records, resp.Next = resp.Records[:n], until
	}
	if left := r.most - r.sent; r.most > 0 && int64(len(resp.Records)) > left {
		resp.Records = resp.Records[:left]
		resp.Next = resp.Records[left-1].Offset + 1
	}
	if len(resp.Records) > 0 || !r.seen[resp.Partition] || resp.Next > at {
		if r.over = r.emit(resp); r.over != nil {
			return r.over
		}
	}
	r.seen[resp.Partition] = true
	r.next[resp.Partition] = max(at, resp.Next)
	r.sent += int64(len(resp.Records))
	if r.doneLocked() || r.enough != nil && r.enough() {
		r.over = errEnough
	}
	return r.over
}

func (r *reading) done() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.doneLocked()
}

func (r *reading) doneLocked() bool {
	if r.most > 0 && r.sent >= r.most {
		return true
	}
	if r.until == nil {
		return false
	}
	for p, end := range r.until {
		if r.next[p] < end {
			return false
		}
	}
	return true
}

func (r *reading) why() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over
}

// Consume implements the service.
func (h records) Consume(ctx context.Context, req *connect.Request[v1.ConsumeRequest], stream *connect.ServerStream[v1.ConsumeResponse]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.g.ctx, cancel)()
	msg := req.Msg
	if msg.MaxRecords < 0 {
		return refuse(connect.CodeInvalidArgument, "max_records is %d", msg.MaxRecords)
	}
	r := &reading{g: h.g, topic: msg.Topic, hops: hops(req.Header()), text: msg.Text, most: msg.MaxRecords, seen: make(map[int32]bool)}
	begins, cancelBegin := context.WithTimeout(ctx, callTimeout)
	defer cancelBegin()
	var err error
	if r.next, err = h.g.resolve(begins, msg.Topic, msg.Partitions, msg.Position); err != nil {
		return err
	}
	if msg.UntilEnd {
		if r.until, err = h.g.ends(begins, msg.Topic, r.next); err != nil {
			return err
		}
	}
	named := false
	r.emit = func(resp *v1.ConsumeResponse) error {
		if !named {
			named = true
			stream.ResponseHeader().Set(HeaderAnswered, nodeList([]int32{resp.Node}))
		}
		return stream.Send(resp)
	}
	group := msg.Position.GetGroup()
	if group == nil || !group.AutoCommit {
		err = r.run(ctx)
	} else {
		err = h.g.committing(ctx, r, group.Group)
	}
	if err != nil && h.g.ctx.Err() != nil {
		return refuse(connect.CodeUnavailable, "the node stops: go on at another one")
	}
	return err
}

// committing runs a reading and commits what it has sent.
func (g *Gateway) committing(ctx context.Context, r *reading, group string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	committed := r.all()
	wg.Go(func() {
		tick := time.NewTicker(commitEvery)
		defer tick.Stop()
		due := r.all() // sent before the last tick
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if !maps.Equal(due, committed) {
				if err := g.commit(ctx, group, r.topic, due); err != nil {
					cancel(err)
					return
				}
				committed = due
			}
			due = r.all()
		}
	})
	err := r.run(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	wg.Wait()
	if last := r.all(); err == nil && !maps.Equal(last, committed) {
		final, stop := context.WithTimeout(context.WithoutCancel(ctx), finalCommit)
		defer stop()
		err = g.commit(final, group, r.topic, last)
	}
	return err
}

// all are the present positions.
func (r *reading) all() map[int32]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.next)
}
