package node

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/config"
	"github.com/raftsman/raftsman/internal/kafka"
)

// What the administrative APIs ask of a node that stands alone.

func (a *alone) Defaults() kafka.Defaults {
	return kafka.Defaults{Partitions: 1, ReplicationFactor: 1}
}

func (a *alone) CreateTopics(_ context.Context, specs []kafka.CreateTopicSpec) []kafka.CreatedTopic {
	a.mu.Lock()
	defer a.mu.Unlock()
	made := make([]kafka.CreatedTopic, len(specs))
	for i, spec := range specs {
		made[i].Info, made[i].Err = a.createLocked(spec)
	}
	return made
}

func (a *alone) createLocked(spec kafka.CreateTopicSpec) (kafka.TopicInfo, error) {
	if _, ok := a.created[spec.Name]; ok {
		return kafka.TopicInfo{}, kerr.TopicAlreadyExists
	}
	if spec.Partitions < 1 || spec.Name == "" || len(spec.Name) > 249 {
		panic(fmt.Sprintf("the server let %+v through", spec))
	}
	if spec.Partitions > 100 || len(a.created) > 100 {
		return kafka.TopicInfo{}, kerr.InvalidPartitions
	}
	t := topicInfo(spec.Name, byte(len(a.created)+1), spec.Partitions)
	if !spec.ValidateOnly {
		a.created[spec.Name] = t
	}
	return t, nil
}

func (a *alone) DeleteTopics(_ context.Context, topics []kafka.TopicInfo) []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	errs := make([]error, len(topics))
	for i, t := range topics {
		if _, ok := a.created[t.Name]; !ok {
			errs[i] = kerr.UnknownTopicOrPartition
		} else if t.Name != "t" {
			delete(a.created, t.Name)
		}
	}
	return errs
}

func (a *alone) CreatePartitions(_ context.Context, specs []kafka.CreatePartitionsSpec, _ bool) []error {
	errs := make([]error, len(specs))
	for i := range errs {
		errs[i] = kerr.InvalidPartitions
	}
	return errs
}

func (a *alone) DescribeConfigs(kafka.ConfigResource) (entries []config.Entry, err error) {
	for _, name := range config.TopicNames() {
		e, _ := config.Brokers(nil).Topic(nil, name)
		entries = append(entries, e)
	}
	return entries, nil
}

func (a *alone) AlterConfigs(_ context.Context, changes []kafka.ConfigChange, _ bool) []error {
	errs := make([]error, len(changes))
	for i, c := range changes {
		_, errs[i] = config.Brokers(nil).AlterTopic(nil, c.Change)
		if errs[i] != nil {
			errs[i] = configError(errs[i])
		}
	}
	return errs
}

func (a *alone) LogDirs() []kafka.LogDir      { return []kafka.LogDir{{Path: "data"}} }
func (a *alone) Absent(string) []kafka.Broker { return nil }

func (a *alone) Reassign(_ context.Context, moves []kafka.Reassignment) []error {
	errs := make([]error, len(moves))
	for i := range errs {
		errs[i] = kerr.NoReassignmentInProgress
	}
	return errs
}

func (a *alone) Reassignments() []kafka.Moving { return nil }

func (a *alone) ElectLeaders(_ context.Context, partitions []kafka.TopicPartition) []error {
	return make([]error, len(partitions))
}
