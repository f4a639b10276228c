package agent

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franzAdmin makes an Op of what needs only an admin client.
func franzAdmin(do func(context.Context, *kadm.Client, Job) (Event, error)) Op {
	return func(ctx context.Context, j Job, _ Emit) (Event, error) {
		cl, err := kgo.NewClient(kgo.SeedBrokers(j.Brokers...))
		if err != nil {
			return Event{}, err
		}
		defer cl.Close()
		return do(ctx, kadm.NewClient(cl), j)
	}
}

func franzOffsetAt(ctx context.Context, j Job, emit Emit) (Event, error) {
	return franzAdmin(func(ctx context.Context, adm *kadm.Client, j Job) (Event, error) {
		list := func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return adm.ListOffsetsAfterMilli(ctx, j.Time, topics...)
		}
		switch j.Time {
		case -1:
			list = adm.ListEndOffsets
		case -2:
			list = adm.ListStartOffsets
		}
		offsets, err := list(ctx, j.Topic)
		if err == nil {
			err = offsets.Error()
		}
		o, _ := offsets.Lookup(j.Topic, j.Partition)
		return Event{Count: o.Offset}, err
	})(ctx, j, emit)
}

func franzCreateTopic(ctx context.Context, adm *kadm.Client, j Job) (Event, error) {
	configs := map[string]*string{}
	for k, v := range j.Config {
		configs[k] = &v
	}
	_, err := adm.CreateTopic(ctx, int32(j.Count), 3, configs, j.Topic)
	return Event{}, err
}

func franzDescribeTopic(ctx context.Context, adm *kadm.Client, j Job) (Event, error) {
	topics, err := adm.ListTopics(ctx, j.Topic)
	if err != nil {
		return Event{}, err
	}
	return Event{Count: int64(len(topics[j.Topic].Partitions))}, topics[j.Topic].Err
}

func franzCreatePartitions(ctx context.Context, adm *kadm.Client, j Job) (Event, error) {
	r, err := adm.UpdatePartitions(ctx, j.Count, j.Topic)
	if err == nil {
		err = r.Error()
	}
	return Event{}, err
}

func franzDeleteTopic(ctx context.Context, adm *kadm.Client, j Job) (Event, error) {
	_, err := adm.DeleteTopic(ctx, j.Topic)
	return Event{}, err
}

func franzDescribeConfig(ctx context.Context, adm *kadm.Client, j Job) (Event, error) {
	rs, err := adm.DescribeTopicConfigs(ctx, j.Topic)
	if err != nil {
		return Event{}, err
	}
	e := Event{Config: map[string]string{}}
	for _, r := range rs {
		if r.Err != nil {
			return e, r.Err
		}
		for _, c := range r.Configs {
			e.Config[c.Key] = c.MaybeValue()
		}
	}
	return e, nil
}

func franzAlterConfig(ctx context.Context, adm *kadm.Client, j Job) (Event, error) {
	var alter []kadm.AlterConfig
	for k, v := range j.Config {
		alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: &v})
	}
	rs, err := adm.AlterTopicConfigs(ctx, alter, j.Topic)
	for _, r := range rs {
		if err == nil {
			err = r.Err
		}
	}
	return Event{}, err
}

func franzDeleteRecords(ctx context.Context, adm *kadm.Client, j Job) (Event, error) {
	var offsets kadm.Offsets
	offsets.AddOffset(j.Topic, j.Partition, j.Offset, -1)
	rs, err := adm.DeleteRecords(ctx, offsets)
	if err == nil {
		err = rs.Error()
	}
	return Event{}, err
}

func franzListGroups(ctx context.Context, adm *kadm.Client, j Job) (Event, error) {
	gs, err := adm.ListGroups(ctx)
	return Event{Names: gs.Groups()}, err
}

func franzDescribeGroup(ctx context.Context, adm *kadm.Client, j Job) (Event, error) {
	gs, err := adm.DescribeGroups(ctx, j.Group)
	if err != nil {
		return Event{}, err
	}
	g, ok := gs[j.Group]
	if !ok {
		return Event{}, fmt.Errorf("no group %s in the answer", j.Group)
	}
	return Event{Names: []string{g.State}, Count: int64(len(g.Members))}, g.Err
}

func franzDeleteGroup(ctx context.Context, adm *kadm.Client, j Job) (Event, error) {
	r, err := adm.DeleteGroup(ctx, j.Group)
	if err == nil {
		err = r.Err
	}
	return Event{}, err
}
