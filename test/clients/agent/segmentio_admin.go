package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// segmentioAdmin makes an Op of what needs only a client.
func segmentioAdmin(do func(context.Context, *kafka.Client, Job) (Event, error)) Op {
	return func(ctx context.Context, j Job, _ Emit) (Event, error) {
		return do(ctx, &kafka.Client{Addr: kafka.TCP(j.Brokers...)}, j)
	}
}

func segmentioCreateTopic(ctx context.Context, cl *kafka.Client, j Job) (Event, error) {
	topic := kafka.TopicConfig{Topic: j.Topic, NumPartitions: j.Count, ReplicationFactor: 3}
	for k, v := range j.Config {
		topic.ConfigEntries = append(topic.ConfigEntries, kafka.ConfigEntry{ConfigName: k, ConfigValue: v})
	}
	r, err := cl.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{topic}})
	if err == nil {
		err = r.Errors[j.Topic]
	}
	return Event{}, err
}

func segmentioDescribeTopic(ctx context.Context, cl *kafka.Client, j Job) (Event, error) {
	r, err := cl.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{j.Topic}})
	if err != nil {
		return Event{}, err
	}
	if len(r.Topics) != 1 {
		return Event{}, fmt.Errorf("%d topics in the answer", len(r.Topics))
	}
	return Event{Count: int64(len(r.Topics[0].Partitions))}, r.Topics[0].Error
}

func segmentioCreatePartitions(ctx context.Context, cl *kafka.Client, j Job) (Event, error) {
	r, err := cl.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: j.Topic, Count: int32(j.Count)}},
	})
	if err == nil {
		err = r.Errors[j.Topic]
	}
	return Event{}, err
}

func segmentioDeleteTopic(ctx context.Context, cl *kafka.Client, j Job) (Event, error) {
	r, err := cl.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{j.Topic}})
	if err == nil {
		err = r.Errors[j.Topic]
	}
	return Event{}, err
}

func segmentioDescribeConfig(ctx context.Context, cl *kafka.Client, j Job) (Event, error) {
	r, err := cl.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: j.Topic}},
	})
	if err != nil {
		return Event{}, err
	}
	e := Event{Config: map[string]string{}}
	for _, res := range r.Resources {
		if res.Error != nil {
			return e, res.Error
		}
		for _, c := range res.ConfigEntries {
			e.Config[c.ConfigName] = c.ConfigValue
		}
	}
	return e, nil
}

func segmentioAlterConfig(ctx context.Context, cl *kafka.Client, j Job) (Event, error) {
	res := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: j.Topic}
	for k, v := range j.Config {
		res.Configs = append(res.Configs, kafka.IncrementalAlterConfigsRequestConfig{
			Name: k, Value: v, ConfigOperation: kafka.ConfigOperationSet,
		})
	}
	r, err := cl.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{res},
	})
	if err != nil {
		return Event{}, err
	}
	for _, res := range r.Resources {
		err = errors.Join(err, res.Error)
	}
	return Event{}, err
}

func segmentioListGroups(ctx context.Context, cl *kafka.Client, j Job) (Event, error) {
	var e Event
	for _, b := range j.Brokers { // kafka-go asks one broker, which lists the groups it coordinates
		r, err := cl.ListGroups(ctx, &kafka.ListGroupsRequest{Addr: kafka.TCP(b)})
		if err != nil {
			return e, err
		}
		if r.Error != nil {
			return e, r.Error
		}
		for _, g := range r.Groups {
			e.Names = append(e.Names, g.GroupID)
		}
	}
	return e, nil
}

func segmentioDescribeGroup(ctx context.Context, cl *kafka.Client, j Job) (Event, error) {
	r, err := cl.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{j.Group}})
	if err != nil {
		return Event{}, err
	}
	if len(r.Groups) != 1 {
		return Event{}, fmt.Errorf("%d groups in the answer", len(r.Groups))
	}
	g := r.Groups[0]
	return Event{Names: []string{g.GroupState}, Count: int64(len(g.Members))}, g.Error
}

func segmentioDeleteGroup(ctx context.Context, cl *kafka.Client, j Job) (Event, error) {
	r, err := cl.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{j.Group}})
	if err == nil {
		err = r.Errors[j.Group]
	}
	return Event{}, err
}
