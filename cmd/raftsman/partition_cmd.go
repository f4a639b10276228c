package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/health"
)

func newPartition() *cobra.Command {
	return group("partition", "See partitions, move them, and recover them", newPartitionList(), newMove(), newTransfer(), newPartitionRecover())
}

func newPartitionList() *cobra.Command {
	var (
		to          httpFlags
		view        view
		topic, node string
		problems    bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List partitions with their leaders and replicas",
		Example: `  raftsman partition list --topic orders
  raftsman partition list --node 2 --problems
  raftsman partition list --problems --watch`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if topic != "" {
				query.Set("topic", topic)
			}
			if node != "" {
				if _, err := nodeNumber(node); err != nil {
					return err
				}
				query.Set("node", node)
			}
			return view.run(cmd, func() (shown, error) {
				list := []health.Partition{}
				err := to.getJSON(cmd, "/partitions?"+query.Encode(), &list)
				if topic != "" && answered(err, http.StatusNotFound) {
					return shown{}, to.unknownTopic(cmd, topic)
				}
				if err != nil {
					return shown{}, err
				}
				if problems {
					list = slices.DeleteFunc(list, func(p health.Partition) bool { return notes(&p) == "-" })
				}
				return shown{value: list, table: func(w io.Writer) { partitionTable(w, list) }}, nil
			}, nil)
		},
	}
	f := cmd.Flags()
	f.StringVar(&topic, "topic", "", "only those of this topic")
	f.StringVar(&node, "node", "", "only those with a replica on this node")
	f.BoolVar(&problems, "problems", false, "only those that lack something, or are on the way elsewhere")
	to.bind(cmd)
	view.bind(cmd)
	completeFlag(cmd, "topic", to.completeTopics)
	completeFlag(cmd, "node", to.completeNodes)
	return cmd
}

// unknownTopic says that a topic does not exist, and which one may be meant.
func (h *httpFlags) unknownTopic(cmd *cobra.Command, topic string) error {
	var all []health.Partition
	if err := h.getJSON(cmd, "/partitions", &all); err != nil {
		return err
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Topic)
	}
	return noTopic(topic, names)
}

func partitionTable(w io.Writer, list []health.Partition) {
	heading(w, "PARTITION", "LEADER", "TERM", "REPLICAS", "IN SYNC", "SIZE", "NOTES")
	for i := range list {
		p := &list[i]
		leader, size := any(bad("none")), "-"
		if p.Leader > 0 {
			leader = p.Leader
		}
		if p.Bytes > 0 {
			size = health.Size(p.Bytes)
		}
		note := any("-")
		if text := notes(p); text != "-" {
			note = warn(text)
		}
		cells(w, p.TP(), leader, p.Term, numbers(p.Replicas), numbers(p.InSync), size, note)
	}
}

// notes says what is not as it should be, or "-".
func notes(p *health.Partition) string {
	var out []string
	if len(p.Replicas) == 0 {
		out = append(out, "not placed")
	} else if p.Leader < 0 {
		out = append(out, "no leader")
	}
	if p.Moving {
		out = append(out, "moving")
	}
	for _, s := range []struct {
		what  string
		nodes []int32
	}{{"away", p.Offline}, {"wiped", p.Wiped}, {"behind", p.Lagging}} {
		if len(s.nodes) > 0 {
			out = append(out, s.what+" "+numbers(s.nodes))
		}
	}
	return orDash(strings.Join(out, "; "))
}

// parsePartition reads TOPIC/PARTITION.
func parsePartition(text string) (tp cluster.TopicPartition, err error) {
	topic, number, ok := strings.Cut(text, "/")
	n, nerr := strconv.ParseInt(number, 10, 32)
	if !ok || nerr != nil || n < 0 || cluster.ValidateTopicName(topic) != nil {
		return tp, usageError{fmt.Errorf("%q is not TOPIC/PARTITION, as in orders/3", text)}
	}
	return cluster.TopicPartition{Topic: topic, Partition: int32(n)}, nil
}

func newMove() *cobra.Command {
	var (
		ask   opFlags
		nodes []int32
	)
	cmd := &cobra.Command{
		Use:   "move TOPIC/PARTITION --to NODE,NODE,...",
		Short: "Move a partition's replicas to the given nodes",
		Long: `Moves a partition's replicas to the given nodes, the preferred leader first. New
replicas are filled before old ones are removed, so the partition is served all
the time.` + opHelp,
		Example: `  raftsman partition move orders/3 --to 1,4,5
  raftsman partition move orders/3 --to 1,4,5 --no-wait`,
		Args: exactArgs("TOPIC/PARTITION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			tp, err := parsePartition(args[0])
			if err != nil {
				return err
			}
			return ask.run(cmd, cluster.Op{Kind: cluster.OpMove, Topic: tp.Topic, Partition: tp.Partition, Replicas: nodes})
		},
	}
	cmd.Flags().Int32SliceVar(&nodes, "to", nil, "the nodes that shall hold it, the preferred leader first (required)")
	ask.bind(cmd)
	required(cmd, "to")
	cmd.ValidArgsFunction = ask.to.completePartitions
	return cmd
}

func newTransfer() *cobra.Command {
	var (
		ask  opFlags
		node int32
	)
	cmd := &cobra.Command{
		Use:     "transfer TOPIC/PARTITION --to NODE",
		Short:   "Make one of a partition's replicas its leader",
		Long:    "Hands a partition's leadership to the replica on the given node." + opHelp,
		Example: "  raftsman partition transfer orders/3 --to 2",
		Args:    exactArgs("TOPIC/PARTITION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			tp, err := parsePartition(args[0])
			if err != nil {
				return err
			}
			return ask.run(cmd, cluster.Op{Kind: cluster.OpTransfer, Topic: tp.Topic, Partition: tp.Partition, Node: node})
		},
	}
	cmd.Flags().Int32Var(&node, "to", 0, "the node that shall lead (required)")
	ask.bind(cmd)
	required(cmd, "to")
	cmd.ValidArgsFunction = ask.to.completePartitions
	completeFlag(cmd, "to", ask.to.completeNodes)
	return cmd
}

func required(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagRequired(flag); err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
}
