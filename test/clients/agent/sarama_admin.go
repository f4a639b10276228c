package agent

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"
)

// saramaAdmin makes an Op of what needs only an admin client.
func saramaAdmin(do func(sarama.ClusterAdmin, Job) (Event, error)) Op {
	return func(_ context.Context, j Job, _ Emit) (Event, error) {
		adm, err := sarama.NewClusterAdmin(j.Brokers, saramaConfig())
		if err != nil {
			return Event{}, err
		}
		defer adm.Close()
		return do(adm, j)
	}
}

func saramaCreateTopic(adm sarama.ClusterAdmin, j Job) (Event, error) {
	configs := map[string]*string{}
	for k, v := range j.Config {
		configs[k] = &v
	}
	return Event{}, adm.CreateTopic(j.Topic, &sarama.TopicDetail{
		NumPartitions: int32(j.Count), ReplicationFactor: 3, ConfigEntries: configs,
	}, false)
}

func saramaDescribeTopic(adm sarama.ClusterAdmin, j Job) (Event, error) {
	topics, err := adm.DescribeTopics([]string{j.Topic})
	if err != nil {
		return Event{}, err
	}
	if len(topics) != 1 || topics[0].Err != sarama.ErrNoError {
		return Event{}, fmt.Errorf("described: %+v", topics)
	}
	return Event{Count: int64(len(topics[0].Partitions))}, nil
}

func saramaCreatePartitions(adm sarama.ClusterAdmin, j Job) (Event, error) {
	return Event{}, adm.CreatePartitions(j.Topic, int32(j.Count), nil, false)
}

func saramaDeleteTopic(adm sarama.ClusterAdmin, j Job) (Event, error) {
	return Event{}, adm.DeleteTopic(j.Topic)
}

func saramaDescribeConfig(adm sarama.ClusterAdmin, j Job) (Event, error) {
	entries, err := adm.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: j.Topic})
	e := Event{Config: map[string]string{}}
	for _, c := range entries {
		e.Config[c.Name] = c.Value
	}
	return e, err
}

func saramaAlterConfig(adm sarama.ClusterAdmin, j Job) (Event, error) {
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for k, v := range j.Config {
		entries[k] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &v}
	}
	return Event{}, adm.IncrementalAlterConfig(sarama.TopicResource, j.Topic, entries, false)
}

func saramaDeleteRecords(adm sarama.ClusterAdmin, j Job) (Event, error) {
	return Event{}, adm.DeleteRecords(j.Topic, map[int32]int64{j.Partition: j.Offset})
}

func saramaListGroups(adm sarama.ClusterAdmin, j Job) (Event, error) {
	groups, err := adm.ListConsumerGroups()
	var e Event
	for name := range groups {
		e.Names = append(e.Names, name)
	}
	return e, err
}

func saramaDescribeGroup(adm sarama.ClusterAdmin, j Job) (Event, error) {
	groups, err := adm.DescribeConsumerGroups([]string{j.Group})
	if err != nil {
		return Event{}, err
	}
	if len(groups) != 1 || groups[0].Err != sarama.ErrNoError {
		return Event{}, fmt.Errorf("described: %+v", groups)
	}
	return Event{Names: []string{groups[0].State}, Count: int64(len(groups[0].Members))}, nil
}

func saramaDeleteGroup(adm sarama.ClusterAdmin, j Job) (Event, error) {
	return Event{}, adm.DeleteConsumerGroup(j.Group)
}
