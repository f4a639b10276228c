package clients

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/raftsman/raftsman/test/clients/agent"
	"github.com/twmb/franz-go/pkg/kgo"
)

// outcome is how a client fared while nodes were killed.
type outcome struct{ produced, consumed error }

// exactlyOnce are the clients whose producers are idempotent: each number is
// there once and in order. Of the others none may be missing.
var exactlyOnce = map[string]bool{"franz-go": true, "sarama": true, "librdkafka": true, "confluent-python": true, "kcat": true}

// failover has every client write numbers to a partition and read them in a
// group while each node is killed once, which kills every leader and every
// coordinator at least once.
func failover(t *testing.T, c *cluster) map[string]*outcome {
	t.Helper()
	out := map[string]*outcome{}
	type pair struct {
		trial
		load, member *run
	}
	var pairs []*pair
	watch := watchCommits(t, c)
	for _, client := range clientNames {
		tr := trial{cluster: c, client: client, topic: "failover-" + client, group: "failover-" + client}
		if err := c.create(t.Context(), tr.topic, 1); err != nil {
			t.Fatal(err)
		}
		load, err := start(client, tr.with("load", func(j *agent.Job) { j.Every = 20 }), nil)
		if err != nil {
			t.Fatal(err)
		}
		member, err := tr.member(tr.job("member"))
		if err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, &pair{tr, load, member})
		watch.add(tr.group)
		out[client] = &outcome{}
	}
	for _, p := range pairs {
		waitFor(t, p.client+" to begin", 60*time.Second, func() error {
			if err := p.settled(t.Context(), 1, p.member); err != nil && p.member.ended() == nil {
				return err
			}
			e, err := agent.Clients["franz-go"]["offset_at"](t.Context(), p.with("", func(j *agent.Job) { j.Time = -1 }), nil)
			if err == nil && e.Count < 50 {
				err = fmt.Errorf("%d records", e.Count)
			}
			return err
		})
	}
	for id := range c.nodes {
		c.nodes[id].kill()
		pass(t, 4*time.Second) // an outage to live with: others lead and coordinate
		c.nodes[id].start()
		c.waitReady(id + 1)
		pass(t, 2*time.Second)
	}
	var wg sync.WaitGroup
	for _, p := range pairs {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
			defer cancel()
			defer p.member.kill()
			_, err := p.load.leave(ctx)
			o := out[p.client]
			if err == nil {
				err = p.complete(ctx, p.load.acked)
			}
			o.produced = err
			if o.consumed = p.member.ended(); o.consumed != nil {
				return
			}
			end, err := agent.Clients["franz-go"]["offset_at"](ctx, p.with("", func(j *agent.Job) { j.Time = -1 }), nil)
			if err == nil {
				err = processed(ctx, 1, end.Count, p.member)
			}
			if err == nil {
				_, err = p.member.leave(ctx)
			}
			if err == nil {
				err = watch.wentBack(p.group)
			}
			o.consumed = err
		})
	}
	wg.Wait()
	watch.stop()
	return out
}

// complete reads the topic and checks that nothing acknowledged is missing, and
// with an idempotent client nothing twice or out of order.
func (tr trial) complete(ctx context.Context, acked []int) error {
	e, err := agent.Clients["franz-go"]["offset_at"](ctx, tr.with("", func(j *agent.Job) { j.Time = -1 }), nil)
	if err != nil {
		return err
	}
	if len(acked) == 0 {
		return fmt.Errorf("nothing was acknowledged")
	}
	got, err := tr.read(ctx, int(e.Count))
	if err != nil {
		return err
	}
	there := map[int]bool{}
	last := -1
	for _, r := range got {
		n, err := number(r)
		if err != nil {
			return err
		}
		if exactlyOnce[tr.client] && n <= last {
			return fmt.Errorf("offset %d: number %d after %d", r.Offset, n, last)
		}
		there[n], last = true, n
	}
	for _, n := range acked {
		if !there[n] {
			return fmt.Errorf("number %d was acknowledged and is lost", n)
		}
	}
	return nil
}

func number(r *kgo.Record) (int, error) {
	n, err := strconv.Atoi(string(r.Value))
	if err != nil {
		err = fmt.Errorf("offset %d: %w", r.Offset, err)
	}
	return n, err
}

// pass lets a time go by.
func pass(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}
