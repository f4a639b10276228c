package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// topicInfo is a topic in a list.
type topicInfo struct {
	Name              string            `json:"name"`
	ID                string            `json:"topic_id"`
	Partitions        int               `json:"partitions"`
	ReplicationFactor int               `json:"replication_factor"`
	Leaderless        int               `json:"leaderless"`
	UnderReplicated   int               `json:"under_replicated"`
	Config            map[string]string `json:"config,omitempty"`
}

func newTopic() *cobra.Command {
	return group("topic", "Create, see, alter and delete topics", newTopicCreate(), newTopicList(), newTopicDescribe(), newTopicAlter(), newTopicDelete())
}

func newTopicCreate() *cobra.Command {
	var (
		kafka      kafkaFlags
		partitions int32
		replicas   int16
		configs    []string
		tolerant   bool
		format     outputFormat
	)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a topic",
		Example: `  raftsman topic create orders --partitions 12 --replication-factor 3
  raftsman topic create orders --config retention.ms=86400000 --if-not-exists -o json`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := parseTopicConfig(configs)
			if err != nil {
				return usageError{err}
			}
			return kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				resp, err := adm.CreateTopic(ctx, partitions, replicas, config, args[0])
				exists := errors.Is(err, kerr.TopicAlreadyExists)
				switch {
				case exists && !tolerant:
					return fmt.Errorf("topic %q exists already: raftsman topic describe %s shows it, --if-not-exists leaves it as it is", args[0], args[0])
				case err != nil && !exists:
					return fmt.Errorf("create topic %q: %w", args[0], explained(err, resp.ErrMessage))
				}
				info, err := awaitLeaders(ctx, adm, args[0])
				if err != nil && !exists {
					return fmt.Errorf("topic %q was created, but %w", args[0], err)
				}
				return render(cmd, format, topicCreated{info, !exists}, func(w io.Writer) {
					if exists {
						fmt.Fprintf(w, "%s exists already\n", args[0])
					} else {
						fmt.Fprintf(w, "created %s\n", args[0])
					}
				})
			})
		},
	}
	f := cmd.Flags()
	f.Int32Var(&partitions, "partitions", -1, "number of partitions; -1: the cluster's default")
	f.Int16Var(&replicas, "replication-factor", -1, "replicas of each partition; -1: the cluster's default")
	f.StringArrayVar(&configs, "config", nil, "a setting of the topic, NAME=VALUE; may be repeated")
	f.BoolVar(&tolerant, "if-not-exists", false, "succeed if the topic exists already")
	completeFlag(cmd, "config", completeConfigs("="))
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	kafka.bind(cmd)
	format.bind(cmd)
	return cmd
}

// topicCreated is what topic create shows.
type topicCreated struct {
	topicInfo
	Created bool `json:"created"`
}

// awaitLeaders waits until each partition of a new topic has a leader and all
// its replicas, so that what is done next finds it whole.
func awaitLeaders(ctx context.Context, adm *kadm.Client, topic string) (topicInfo, error) {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		details, err := adm.ListTopics(ctx, topic)
		if err != nil {
			return topicInfo{Name: topic}, fmt.Errorf("its leaders can't be seen: %w", err)
		}
		t := details[topic]
		s := summary(t)
		if t.Err == nil && s.Partitions > 0 && s.Leaderless == 0 {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return s, errors.New("not all of its partitions have a leader yet; see raftsman topic describe")
		case <-poll.C:
		}
	}
}

func parseTopicConfig(pairs []string) (map[string]*string, error) {
	config := make(map[string]*string)
	for _, kv := range pairs {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--config %q: it must be NAME=VALUE", kv)
		}
		config[k] = &v
	}
	return config, nil
}

func newTopicDelete() *cobra.Command {
	var (
		kafka    kafkaFlags
		tolerant bool
		format   outputFormat
	)
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a topic and all its records",
		Example: "  raftsman topic delete orders",
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				resps, err := adm.DeleteTopics(ctx, args[0])
				if err == nil {
					err = explained(resps[args[0]].Err, resps[args[0]].ErrMessage)
				}
				unknown := errors.Is(err, kerr.UnknownTopicOrPartition)
				switch {
				case unknown && !tolerant:
					return unknownTopic(ctx, adm, args[0])
				case err != nil && !unknown:
					return fmt.Errorf("delete topic %q: %w", args[0], err)
				}
				return renderDeleted(cmd, format, deleted{args[0], !unknown})
			})
		},
	}
	cmd.Flags().BoolVar(&tolerant, "if-exists", false, "succeed if there is no such topic")
	cmd.ValidArgsFunction = kafka.completeTopics
	kafka.bind(cmd)
	format.bind(cmd)
	return cmd
}

// deleted is what topic delete and group delete show.
type deleted struct {
	Name    string `json:"name"`
	Deleted bool   `json:"deleted"` // false: it did not exist
}

func renderDeleted(cmd *cobra.Command, format outputFormat, d deleted) error {
	return render(cmd, format, d, func(w io.Writer) {
		if d.Deleted {
			fmt.Fprintf(w, "deleted %s\n", d.Name)
		} else {
			fmt.Fprintf(w, "%s does not exist\n", d.Name)
		}
	})
}

// explained adds what the server said to its error code.
func explained(err error, message string) error {
	if err == nil || message == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, message)
}

func newTopicList() *cobra.Command {
	var (
		kafka    kafkaFlags
		view     view
		internal bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the topics",
		Example: `  raftsman topic list
  raftsman topic list --internal -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return view.run(cmd, kafka.look(cmd, func(ctx context.Context, adm *kadm.Client) (shown, error) {
				details, err := adm.ListTopicsWithInternal(ctx)
				if err != nil {
					return shown{}, fmt.Errorf("list topics: %w", err)
				}
				topics := []topicInfo{}
				for _, t := range details.Sorted() {
					if internal || !t.IsInternal {
						topics = append(topics, summary(t))
					}
				}
				return shown{value: topics, table: func(w io.Writer) { topicTable(w, topics) }}, nil
			}), nil)
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "show internal topics too")
	kafka.bind(cmd)
	view.bind(cmd)
	return cmd
}

func topicTable(w io.Writer, topics []topicInfo) {
	heading(w, "NAME", "PARTITIONS", "REPLICAS", "LEADERLESS", "UNDER-REPLICATED")
	for _, t := range topics {
		cells(w, t.Name, t.Partitions, t.ReplicationFactor, t.Leaderless, t.UnderReplicated)
	}
}

func summary(t kadm.TopicDetail) topicInfo {
	s := topicInfo{Name: t.Topic, ID: uuid.UUID(t.ID).String(), Partitions: len(t.Partitions), ReplicationFactor: t.Partitions.NumReplicas()}
	for _, p := range t.Partitions {
		if p.Leader < 0 {
			s.Leaderless++
		}
		if len(p.ISR) < len(p.Replicas) {
			s.UnderReplicated++
		}
	}
	return s
}
