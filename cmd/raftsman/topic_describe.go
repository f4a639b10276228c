package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

// topicDescription is a topic with its partitions.
type topicDescription struct {
	topicInfo
	// Settings are the configurations that are not at their default, with what
	// says so; Config of topicInfo has those that were set for the topic itself.
	Settings []topicSetting  `json:"settings"`
	Details  []partitionInfo `json:"partition_details"`
}

// topicSetting is a configuration of a topic.
type topicSetting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"` // in Kafka's words, DYNAMIC_TOPIC_CONFIG and so on
}

// origin is the source in a few words.
func (s topicSetting) origin() string {
	switch s.Source {
	case "DYNAMIC_TOPIC_CONFIG":
		return "set for the topic"
	case "DYNAMIC_BROKER_CONFIG":
		return "set for the node that answered"
	case "DYNAMIC_DEFAULT_BROKER_CONFIG":
		return "set for all nodes"
	case "STATIC_BROKER_CONFIG":
		return "by a flag of the node that answered"
	}
	return s.Source
}

// partitionInfo is a partition; offsets are nil when its leader can't tell.
type partitionInfo struct {
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"`
	Epoch     int32   `json:"epoch"`
	Replicas  []int32 `json:"replicas"`
	ISR       []int32 `json:"isr"`
	Start     *int64  `json:"start"`
	End       *int64  `json:"end"`
}

func newTopicDescribe() *cobra.Command {
	var (
		kafka kafkaFlags
		view  view
	)
	cmd := &cobra.Command{
		Use:   "describe NAME",
		Short: "Show a topic's settings, partitions, leaders, replicas and offsets",
		Example: `  raftsman topic describe orders
  raftsman topic describe orders --watch
  raftsman topic describe orders -o json`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return view.run(cmd, kafka.look(cmd, func(ctx context.Context, adm *kadm.Client) (shown, error) {
				d, err := describe(ctx, adm, args[0])
				return shown{value: d, table: d.table}, err
			}), nil)
		},
	}
	cmd.ValidArgsFunction = kafka.completeTopics
	kafka.bind(cmd)
	view.bind(cmd)
	return cmd
}

// offsetsTimeout is short: a partition without a leader has no offsets to wait for.
const offsetsTimeout = 5 * time.Second

func describe(ctx context.Context, adm *kadm.Client, name string) (*topicDescription, error) {
	t, err := topicMetadata(ctx, adm, name)
	if err != nil {
		return nil, err
	}
	d := &topicDescription{topicInfo: summary(t), Details: []partitionInfo{}}
	if d.Settings, err = topicSettings(ctx, adm, name); err != nil {
		return nil, err
	}
	for _, s := range d.Settings {
		if s.Source == "DYNAMIC_TOPIC_CONFIG" {
			if d.Config == nil {
				d.Config = make(map[string]string)
			}
			d.Config[s.Name] = s.Value
		}
	}
	offsetsCtx, cancel := context.WithTimeout(ctx, offsetsTimeout)
	defer cancel()
	// An error is one of some partitions: their offsets stay unknown.
	starts, _ := adm.ListStartOffsets(offsetsCtx, name)
	ends, _ := adm.ListEndOffsets(offsetsCtx, name)
	for _, p := range t.Partitions.Sorted() {
		d.Details = append(d.Details, partitionInfo{
			Partition: p.Partition, Leader: p.Leader, Epoch: p.LeaderEpoch, Replicas: listOf(p.Replicas), ISR: listOf(p.ISR),
			Start: offsetOf(starts, name, p.Partition), End: offsetOf(ends, name, p.Partition),
		})
	}
	return d, nil
}

// topicSettings returns what is not at its default, by name.
func topicSettings(ctx context.Context, adm *kadm.Client, name string) ([]topicSetting, error) {
	resources, err := adm.DescribeTopicConfigs(ctx, name)
	if err == nil && len(resources) != 1 {
		err = errors.New("no answer")
	}
	if err == nil {
		err = explained(resources[0].Err, resources[0].ErrMessage)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the configuration of topic %q: %w", name, err)
	}
	settings := []topicSetting{}
	for _, c := range resources[0].Configs {
		if source := c.Source.String(); source != "DEFAULT_CONFIG" && c.Value != nil {
			settings = append(settings, topicSetting{c.Key, *c.Value, source})
		}
	}
	return settings, nil
}

func offsetOf(listed kadm.ListedOffsets, topic string, partition int32) *int64 {
	o, ok := listed.Lookup(topic, partition)
	if !ok || o.Err != nil {
		return nil
	}
	return &o.Offset
}

func (d *topicDescription) table(w io.Writer) {
	cells(w, "topic", d.Name)
	cells(w, "id", d.ID)
	cells(w, "partitions", d.Partitions)
	cells(w, "replication factor", d.ReplicationFactor)
	for _, s := range d.Settings {
		cells(w, s.Name, s.Value, "("+s.origin()+")")
	}
	fmt.Fprintln(w)
	heading(w, "PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "START", "END")
	for _, p := range d.Details {
		leader := any(bad("none"))
		if p.Leader >= 0 {
			leader = p.Leader
		}
		cells(w, p.Partition, leader, p.Epoch, numbers(p.Replicas), numbers(p.ISR), offsetText(p.Start), offsetText(p.End))
	}
}

func offsetText(o *int64) string {
	if o == nil {
		return "-"
	}
	return fmt.Sprint(*o)
}
