package clients

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/raftsman/raftsman/test/clients/agent"
)

// with returns a job with another count, offset, or whatever change does to it.
func (tr trial) with(op string, change func(*agent.Job)) agent.Job {
	j := tr.job(op)
	change(&j)
	return j
}

// partitions has the client say how many partitions its topic has.
func (tr trial) partitions(ctx context.Context, want int64) error {
	return until(ctx, func() error {
		e, err := tr.do(ctx, tr.job("describe_topic"))
		if err == nil && e.Count != want {
			err = fmt.Errorf("%d partitions, want %d", e.Count, want)
		}
		return err
	})
}

func topics(ctx context.Context, tr trial) error {
	create := tr.with("create_topic", func(j *agent.Job) { j.Count, j.Config = 3, map[string]string{"retention.ms": "3600000"} })
	if _, err := tr.do(ctx, create); err != nil {
		return err
	}
	if err := tr.partitions(ctx, 3); err != nil {
		return err
	}
	if _, err := tr.do(ctx, create); err == nil || !strings.Contains(strings.ToLower(err.Error()), "exist") {
		return fmt.Errorf("the same topic again: %v, want to hear that it exists", err)
	}
	if _, err := tr.do(ctx, tr.job("delete_topic")); err != nil {
		return err
	}
	return until(ctx, func() error {
		all, err := tr.adm.ListTopics(ctx)
		if err == nil && all.Has(tr.topic) {
			err = fmt.Errorf("%s is still there", tr.topic)
		}
		return err
	})
}

func configs(ctx context.Context, tr trial) error {
	if err := tr.create(ctx, tr.topic, 1); err != nil {
		return err
	}
	set := tr.with("alter_config", func(j *agent.Job) { j.Config = map[string]string{"retention.ms": "7200000"} })
	if _, err := tr.do(ctx, set); err != nil {
		return err
	}
	err := until(ctx, func() error {
		e, err := tr.do(ctx, tr.job("describe_config"))
		if err == nil && (e.Config["retention.ms"] != "7200000" || e.Config["cleanup.policy"] != "delete") {
			err = fmt.Errorf("configuration: %v", e.Config)
		}
		return err
	})
	if err != nil {
		return err
	}
	bad := tr.with("alter_config", func(j *agent.Job) { j.Config = map[string]string{"retention.ms": "soon"} })
	if _, err := tr.do(ctx, bad); err == nil {
		return fmt.Errorf("retention.ms=soon is accepted")
	}
	return nil
}

func morePartitions(ctx context.Context, tr trial) error {
	if err := tr.create(ctx, tr.topic, 1); err != nil {
		return err
	}
	if _, err := tr.do(ctx, tr.with("create_partitions", func(j *agent.Job) { j.Count = 4 })); err != nil {
		return err
	}
	return tr.partitions(ctx, 4)
}

func deleteRecords(ctx context.Context, tr trial) error {
	if err := tr.create(ctx, tr.topic, 1); err != nil {
		return err
	}
	if _, err := do(ctx, "franz-go", tr.with("produce", func(j *agent.Job) { j.Records = compressible() })); err != nil {
		return err
	}
	if _, err := tr.do(ctx, tr.with("delete_records", func(j *agent.Job) { j.Offset = 7 })); err != nil {
		return err
	}
	e, err := tr.do(ctx, tr.with("offset_at", func(j *agent.Job) { j.Time = -2 }))
	if err == nil && e.Count != 7 {
		err = fmt.Errorf("the first offset is %d, want 7", e.Count)
	}
	return err
}

// seeGroups has the client list and describe a group of one member of its own:
// kafka-go does not understand what newer clients say of themselves.
func seeGroups(ctx context.Context, tr trial) error {
	if err := tr.create(ctx, tr.topic, 1); err != nil {
		return err
	}
	m, err := tr.member(tr.job("member"))
	if err != nil {
		return err
	}
	defer m.kill()
	if err := tr.settled(ctx, 1, m); err != nil {
		return err
	}
	e, err := tr.do(ctx, tr.job("list_groups"))
	if err != nil {
		return err
	}
	if !slices.Contains(e.Names, tr.group) {
		return fmt.Errorf("groups: %v, without %s", e.Names, tr.group)
	}
	e, err = tr.do(ctx, tr.job("describe_group"))
	if err == nil && (!slices.Equal(e.Names, []string{"Stable"}) || e.Count != 1) {
		err = fmt.Errorf("state %v, %d members; want Stable, 1", e.Names, e.Count)
	}
	return err
}

// deleteGroup has the client delete a group, which is refused while it has a
// member.
func deleteGroup(ctx context.Context, tr trial) error {
	if err := tr.create(ctx, tr.topic, 1); err != nil {
		return err
	}
	m, err := start("franz-go", tr.job("member"), nil)
	if err != nil {
		return err
	}
	defer m.kill()
	if err := tr.settled(ctx, 1, m); err != nil {
		return err
	}
	if _, err := tr.do(ctx, tr.job("delete_group")); err == nil {
		return fmt.Errorf("a group with a member was deleted")
	} else if strings.Contains(err.Error(), agent.ErrNone.Error()) {
		return agent.ErrNone
	}
	if _, err := m.leave(ctx); err != nil {
		return err
	}
	if _, err := tr.do(ctx, tr.job("delete_group")); err != nil {
		return err
	}
	all, err := tr.adm.ListGroups(ctx)
	if _, there := all[tr.group]; err == nil && there {
		err = fmt.Errorf("the group is still there")
	}
	return err
}
