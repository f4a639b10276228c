package agent

import (
	"context"
	"fmt"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// confluentAdmin makes an Op of what needs only an admin client.
func confluentAdmin(do func(context.Context, *kafka.AdminClient, Job) (Event, error)) Op {
	return func(ctx context.Context, j Job, _ Emit) (Event, error) {
		adm, err := kafka.NewAdminClient(confluentConfig(j, nil))
		if err != nil {
			return Event{}, err
		}
		defer adm.Close()
		return do(ctx, adm, j)
	}
}

func topicResult(rs []kafka.TopicResult, err error) (Event, error) {
	for _, r := range rs {
		if err == nil && r.Error.Code() != kafka.ErrNoError {
			err = r.Error
		}
	}
	return Event{}, err
}

func confluentCreateTopic(ctx context.Context, adm *kafka.AdminClient, j Job) (Event, error) {
	return topicResult(adm.CreateTopics(ctx, []kafka.TopicSpecification{{
		Topic: j.Topic, NumPartitions: j.Count, ReplicationFactor: 3, Config: j.Config,
	}}))
}

func confluentDescribeTopic(ctx context.Context, adm *kafka.AdminClient, j Job) (Event, error) {
	r, err := adm.DescribeTopics(ctx, kafka.NewTopicCollectionOfTopicNames([]string{j.Topic}))
	if err != nil {
		return Event{}, err
	}
	if len(r.TopicDescriptions) != 1 || r.TopicDescriptions[0].Error.Code() != kafka.ErrNoError {
		return Event{}, fmt.Errorf("described: %+v", r.TopicDescriptions)
	}
	return Event{Count: int64(len(r.TopicDescriptions[0].Partitions))}, nil
}

func confluentCreatePartitions(ctx context.Context, adm *kafka.AdminClient, j Job) (Event, error) {
	return topicResult(adm.CreatePartitions(ctx, []kafka.PartitionsSpecification{{Topic: j.Topic, IncreaseTo: j.Count}}))
}

func confluentDeleteTopic(ctx context.Context, adm *kafka.AdminClient, j Job) (Event, error) {
	return topicResult(adm.DeleteTopics(ctx, []string{j.Topic}))
}

func confluentDescribeConfig(ctx context.Context, adm *kafka.AdminClient, j Job) (Event, error) {
	rs, err := adm.DescribeConfigs(ctx, []kafka.ConfigResource{{Type: kafka.ResourceTopic, Name: j.Topic}})
	e := Event{Config: map[string]string{}}
	for _, r := range rs {
		if err == nil && r.Error.Code() != kafka.ErrNoError {
			err = r.Error
		}
		for _, c := range r.Config {
			e.Config[c.Name] = c.Value
		}
	}
	return e, err
}

func confluentAlterConfig(ctx context.Context, adm *kafka.AdminClient, j Job) (Event, error) {
	res := kafka.ConfigResource{Type: kafka.ResourceTopic, Name: j.Topic}
	for k, v := range j.Config {
		res.Config = append(res.Config, kafka.ConfigEntry{Name: k, Value: v, IncrementalOperation: kafka.AlterConfigOpTypeSet})
	}
	rs, err := adm.IncrementalAlterConfigs(ctx, []kafka.ConfigResource{res})
	for _, r := range rs {
		if err == nil && r.Error.Code() != kafka.ErrNoError {
			err = r.Error
		}
	}
	return Event{}, err
}

func confluentDeleteRecords(ctx context.Context, adm *kafka.AdminClient, j Job) (Event, error) {
	r, err := adm.DeleteRecords(ctx, []kafka.TopicPartition{{Topic: &j.Topic, Partition: j.Partition, Offset: kafka.Offset(j.Offset)}})
	for _, p := range r.DeleteRecordsResults {
		if err == nil {
			err = p.TopicPartition.Error
		}
	}
	return Event{}, err
}

func confluentListGroups(ctx context.Context, adm *kafka.AdminClient, _ Job) (Event, error) {
	r, err := adm.ListConsumerGroups(ctx)
	var e Event
	for _, g := range r.Valid {
		e.Names = append(e.Names, g.GroupID)
	}
	if err == nil && len(r.Errors) > 0 {
		err = r.Errors[0]
	}
	return e, err
}

func confluentDescribeGroup(ctx context.Context, adm *kafka.AdminClient, j Job) (Event, error) {
	r, err := adm.DescribeConsumerGroups(ctx, []string{j.Group})
	if err != nil {
		return Event{}, err
	}
	if len(r.ConsumerGroupDescriptions) != 1 || r.ConsumerGroupDescriptions[0].Error.Code() != kafka.ErrNoError {
		return Event{}, fmt.Errorf("described: %+v", r.ConsumerGroupDescriptions)
	}
	g := r.ConsumerGroupDescriptions[0]
	return Event{Names: []string{g.State.String()}, Count: int64(len(g.Members))}, nil
}

func confluentDeleteGroup(ctx context.Context, adm *kafka.AdminClient, j Job) (Event, error) {
	r, err := adm.DeleteConsumerGroups(ctx, []string{j.Group})
	for _, g := range r.ConsumerGroupResults {
		if err == nil && g.Error.Code() != kafka.ErrNoError {
			err = g.Error
		}
	}
	return Event{}, err
}
