package clients

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/raftsman/raftsman/test/clients/agent"
	"github.com/twmb/franz-go/pkg/kgo"
)

// sessionTimeout is the members', in milliseconds: the shortest that a
// coordinator allows by default.
const sessionTimeout = 6000

// write writes n numbered records to each of the partitions.
func (tr trial) write(ctx context.Context, partitions, n int) error {
	var records []*kgo.Record
	for i := range n * partitions {
		records = append(records, &kgo.Record{Topic: tr.topic, Partition: int32(i % partitions), Value: fmt.Append(nil, i)})
	}
	return tr.cl.ProduceSync(ctx, records...).FirstErr()
}

// processed waits until the members together have seen each partition up to end.
func processed(ctx context.Context, partitions int, end int64, members ...*run) error {
	return until(ctx, func() error {
		seen := map[int32]map[int64]bool{}
		for _, m := range members {
			for _, r := range m.seen() {
				if seen[r.Partition] == nil {
					seen[r.Partition] = map[int64]bool{}
				}
				seen[r.Partition][r.Offset] = true
			}
		}
		for p := range int32(partitions) {
			for o := range end {
				if !seen[p][o] {
					return fmt.Errorf("offset %d of partition %d was not processed", o, p)
				}
			}
		}
		return nil
	})
}

func (tr trial) member(j agent.Job) (*run, error) {
	j.Op = "member"
	return start(tr.client, j, nil)
}

// rebalance has members join, leave and die; nothing is left out.
func rebalance(assignor string) feature {
	return func(ctx context.Context, tr trial) error {
		const partitions = 4
		if err := tr.create(ctx, tr.topic, partitions); err != nil {
			return err
		}
		job := tr.with("member", func(j *agent.Job) { j.Assignor = assignor })
		var all []*run
		defer func() {
			for _, m := range all {
				m.kill()
			}
		}()
		end := int64(0)
		stage := func(members int) error {
			if err := tr.settled(ctx, members, all...); err != nil {
				return fmt.Errorf("%d members: %w", members, err)
			}
			if err := tr.write(ctx, partitions, 5); err != nil {
				return err
			}
			end += 5
			return processed(ctx, partitions, end, all...)
		}
		for n := range 3 {
			m, err := tr.member(job)
			if err != nil {
				return err
			}
			all = append(all, m)
			if err := stage(n + 1); err != nil {
				return err
			}
		}
		if g, err := tr.described(ctx); err != nil || assignor == "cooperative" && g.protocol != "cooperative-sticky" {
			return fmt.Errorf("protocol %s: %w", g.protocol, err)
		}
		watched := all
		all = slices.Clone(all[:2]) // what has ended is not watched
		if _, err := watched[2].leave(ctx); err != nil {
			return fmt.Errorf("leave: %w", err)
		}
		gone := watched[2]
		if err := tr.settled(ctx, 2, all...); err != nil {
			return fmt.Errorf("after one left: %w", err)
		}
		all[1].kill()
		dead := all[1]
		all = all[:1]
		if err := tr.settled(ctx, 1, all...); err != nil {
			return fmt.Errorf("after one died: %w", err)
		}
		if err := tr.write(ctx, partitions, 5); err != nil {
			return err
		}
		return processed(ctx, partitions, end+5, all[0], gone, dead)
	}
}

// resume has a member go on where the one before it has committed.
func resume(ctx context.Context, tr trial) error {
	const partitions = 2
	if err := tr.create(ctx, tr.topic, partitions); err != nil {
		return err
	}
	for round := range int64(2) {
		if err := tr.write(ctx, partitions, 50); err != nil {
			return err
		}
		m, err := tr.member(tr.job("member"))
		if err != nil {
			return err
		}
		defer m.kill()
		err = until(ctx, func() error {
			if err := m.ended(); err != nil {
				return err
			}
			if got := len(m.seen()); got < 50*partitions {
				return fmt.Errorf("round %d: %d records", round, got)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := m.leave(ctx); err != nil {
			return err
		}
		for _, r := range m.seen() {
			if r.Offset < 50*round || r.Offset >= 50*(round+1) {
				return fmt.Errorf("round %d: offset %d", round, r.Offset)
			}
		}
		committed, err := tr.adm.FetchOffsets(ctx, tr.group)
		if err != nil {
			return err
		}
		for p := range int32(partitions) {
			if o, _ := committed.Lookup(tr.topic, p); o.At != 50*(round+1) {
				return fmt.Errorf("round %d: committed offset of partition %d is %d", round, p, o.At)
			}
		}
	}
	return nil
}

// static has a static member die and return within its session: the other one
// keeps its place, and the one that returned has its partitions again.
func static(ctx context.Context, tr trial) error {
	const partitions = 4
	if err := tr.create(ctx, tr.topic, partitions); err != nil {
		return err
	}
	job := func(instance string) agent.Job {
		return tr.with("member", func(j *agent.Job) { j.Instance, j.Session = instance, 30000 })
	}
	first, err := tr.member(job("one"))
	if err != nil {
		return err
	}
	defer func() { first.kill() }()
	if err := tr.settled(ctx, 1, first); err != nil {
		return err
	}
	second, err := tr.member(job("two"))
	if err != nil {
		return err
	}
	defer second.kill()
	if err := tr.settled(ctx, 2, first, second); err != nil {
		return err
	}
	places := func() (ids map[string]string, parts map[string][]int32, err error) {
		g, err := tr.described(ctx)
		ids, parts = map[string]string{}, map[string][]int32{}
		for _, m := range g.members {
			if m.instance != "" {
				ids[m.instance], parts[m.instance] = m.id, m.partitions
			}
		}
		return ids, parts, err
	}
	before, had, err := places()
	if err != nil {
		return err
	}
	first.kill()
	if first, err = tr.member(job("one")); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, 20*time.Second) // less than the session
	defer cancel()
	return until(bounded, func() error {
		if err := first.ended(); err != nil {
			return err
		}
		if err := tr.write(ctx, partitions, 1); err != nil {
			return err
		}
		after, has, err := places()
		if err != nil {
			return err
		}
		if after["one"] == before["one"] || after["two"] != before["two"] || !slices.Equal(had["one"], has["one"]) {
			return fmt.Errorf("members %v with %v; before: %v with %v", after, has, before, had)
		}
		if len(first.seen()) == 0 {
			return fmt.Errorf("the member that returned has got nothing")
		}
		return nil
	})
}
