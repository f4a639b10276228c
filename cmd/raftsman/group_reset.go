package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// groupReset is what a reset does to one partition.
type groupReset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      *int64 `json:"from"` // nil if nothing was committed
	To        int64  `json:"to"`
}

func newGroupReset() *cobra.Command {
	var (
		kafka   kafkaFlags
		format  outputFormat
		to      string
		topics  []string
		execute bool
	)
	cmd := &cobra.Command{
		Use:   "reset NAME --to WHERE",
		Short: "Move a group's committed offsets",
		Long: `Moves the committed offsets of a group without members: to the start or the end of
each partition, to an offset, to the last records, or to the first record that is
not older than a time.
Shows what it would do; does it with --execute. Without --topic it is about all
partitions that the group has offsets for. What lies outside of a partition's
records is moved to its start or end.`,
		Example: `  raftsman group reset orders-billing --to start
  raftsman group reset orders-billing --to @2026-11-21T08:00:00Z --topic orders --execute
  raftsman group reset orders-billing --to 4200 --topic orders:0,3 --execute`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			where, err := parseWhere("--to", to, time.Now())
			if err != nil {
				return usageError{err}
			}
			chosen, err := parseChosen(topics)
			if err != nil {
				return usageError{err}
			}
			return kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				resets, err := planReset(ctx, adm, args[0], where, chosen)
				if err != nil {
					return err
				}
				if execute {
					if err := commitReset(ctx, adm, args[0], resets); err != nil {
						return err
					}
				}
				return render(cmd, format, listOf(resets), func(w io.Writer) {
					heading(w, "TOPIC", "PARTITION", "FROM", "TO")
					for _, r := range resets {
						cells(w, r.Topic, r.Partition, offsetText(r.From), r.To)
					}
					if !execute {
						fmt.Fprintln(w, "nothing was changed; --execute does it")
					}
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", whereHelp+" (required)")
	f.StringArrayVar(&topics, "topic", nil, "only this topic, TOPIC[:PARTITION,...]; may be repeated")
	f.BoolVar(&execute, "execute", false, "do it; without it nothing is changed")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		panic(fmt.Sprintf("BUG: --to: %v", err))
	}
	completeFlag(cmd, "topic", kafka.completeTopics)
	completeFlag(cmd, "to", completeWhere)
	cmd.ValidArgsFunction = kafka.completeGroups
	kafka.bind(cmd)
	format.bind(cmd)
	return cmd
}

// parseChosen reads topics and their partitions; no partitions are all.
func parseChosen(texts []string) (map[string][]int32, error) {
	chosen := make(map[string][]int32)
	for _, text := range texts {
		topic, list, some := strings.Cut(text, ":")
		if topic == "" || some && list == "" {
			return nil, fmt.Errorf("--topic %q: it must be TOPIC[:PARTITION,...]", text)
		}
		partitions := chosen[topic]
		for _, p := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
			n, err := strconv.ParseInt(p, 10, 32)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("--topic %q: %q is not a partition", text, p)
			}
			partitions = append(partitions, int32(n))
		}
		chosen[topic] = partitions
	}
	return chosen, nil
}

// planReset says what is to be moved where.
func planReset(ctx context.Context, adm *kadm.Client, name string, to where, chosen map[string][]int32) ([]groupReset, error) {
	// A group that does not exist yet may be given offsets to begin at.
	if g, err := knownGroup(ctx, adm, name); err == nil {
		if err := refuseMembers(g); err != nil {
			return nil, err
		}
	} else if len(chosen) == 0 {
		return nil, fmt.Errorf("%w; name topics with --topic to give it offsets to begin at", err)
	}
	committed, err := adm.FetchOffsets(ctx, name)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the offsets of group %q: %w", name, err)
	}
	if len(chosen) == 0 {
		committed.Each(func(o kadm.OffsetResponse) { chosen[o.Topic] = append(chosen[o.Topic], o.Partition) })
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("group %q has no offsets; name topics with --topic", name)
	}
	bounds, err := limitsOf(ctx, adm, to, slices.Sorted(maps.Keys(chosen)))
	if err != nil {
		return nil, err
	}
	var resets []groupReset
	for _, topic := range slices.Sorted(maps.Keys(chosen)) {
		partitions := chosen[topic]
		if len(partitions) == 0 {
			for p := range bounds.starts[topic] {
				partitions = append(partitions, p)
			}
		}
		slices.Sort(partitions)
		for _, p := range slices.Compact(partitions) {
			r := groupReset{Topic: topic, Partition: p}
			if o, ok := committed.Lookup(topic, p); ok && o.At >= 0 {
				r.From = &o.At
			}
			if r.To, err = bounds.place(to, topic, p); err != nil {
				return nil, err
			}
			resets = append(resets, r)
		}
	}
	return resets, nil
}

func commitReset(ctx context.Context, adm *kadm.Client, name string, resets []groupReset) error {
	offsets := make(kadm.Offsets)
	for _, r := range resets {
		offsets.Add(kadm.Offset{Topic: r.Topic, Partition: r.Partition, At: r.To, LeaderEpoch: -1})
	}
	resp, err := adm.CommitOffsets(ctx, name, offsets)
	if err == nil {
		err = resp.Error()
	}
	if errors.Is(err, kerr.UnknownMemberID) {
		return exitError{exitRefused, fmt.Errorf("group %q has members by now: stop them first", name)}
	}
	if err != nil {
		return fmt.Errorf("commit offsets of group %q: %w", name, err)
	}
	return nil
}
