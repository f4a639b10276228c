package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

// groupDescription is a consumer group with its members and offsets.
type groupDescription struct {
	groupInfo
	Protocol string        `json:"protocol"`
	Members  []groupMember `json:"members"`
	Offsets  []groupOffset `json:"offsets"`
}

// groupMember is a member; what it is assigned is nil unless it is a consumer.
type groupMember struct {
	ID       string             `json:"member_id"`
	Instance string             `json:"instance_id,omitempty"`
	Client   string             `json:"client_id"`
	Host     string             `json:"host"`
	Assigned map[string][]int32 `json:"assigned"`
}

// groupOffset is a partition that the group reads or has read. What is not known,
// or was never committed, is nil.
type groupOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed *int64 `json:"committed"`
	End       *int64 `json:"end"`
	Lag       *int64 `json:"lag"`
	Member    string `json:"member_id,omitempty"`
}

type groupPartition struct {
	topic     string
	partition int32
}

func newGroupDescribe() *cobra.Command {
	var (
		kafka kafkaFlags
		view  view
	)
	cmd := &cobra.Command{
		Use:   "describe NAME",
		Short: "Show a group's members, what they are assigned, and how far they are behind",
		Example: `  raftsman group describe orders-billing
  raftsman group describe orders-billing --watch
  raftsman group describe orders-billing -o json`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return view.run(cmd, kafka.look(cmd, func(ctx context.Context, adm *kadm.Client) (shown, error) {
				d, err := describeGroup(ctx, adm, args[0])
				return shown{value: d, table: d.table}, err
			}), nil)
		},
	}
	cmd.ValidArgsFunction = kafka.completeGroups
	kafka.bind(cmd)
	view.bind(cmd)
	return cmd
}

func describeGroup(ctx context.Context, adm *kadm.Client, name string) (*groupDescription, error) {
	g, err := knownGroup(ctx, adm, name)
	if err != nil {
		return nil, err
	}
	d := &groupDescription{
		groupInfo: groupInfo{g.Group, g.State, g.ProtocolType, g.Coordinator.NodeID},
		Protocol:  g.Protocol, Members: []groupMember{}, Offsets: []groupOffset{},
	}
	committed, err := adm.FetchOffsets(ctx, name)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the offsets of group %q: %w", name, err)
	}
	rows := make(map[groupPartition]groupOffset)
	row := func(topic string, partition int32, change func(*groupOffset)) {
		at := groupPartition{topic, partition}
		o := rows[at]
		o.Topic, o.Partition = topic, partition
		change(&o)
		rows[at] = o
	}
	committed.Each(func(o kadm.OffsetResponse) {
		if o.At >= 0 {
			row(o.Topic, o.Partition, func(r *groupOffset) { r.Committed = &o.At })
		}
	})
	for _, m := range g.Members {
		member := describeMember(m)
		d.Members = append(d.Members, member)
		for topic, partitions := range member.Assigned {
			for _, p := range partitions {
				row(topic, p, func(r *groupOffset) { r.Member = m.MemberID })
			}
		}
	}
	d.addEnds(ctx, adm, rows)
	return d, nil
}

func describeMember(m kadm.DescribedGroupMember) groupMember {
	member := groupMember{ID: m.MemberID, Client: m.ClientID, Host: strings.TrimPrefix(m.ClientHost, "/")}
	if m.InstanceID != nil {
		member.Instance = *m.InstanceID
	}
	if a, ok := m.Assigned.AsConsumer(); ok {
		member.Assigned = make(map[string][]int32)
		for _, t := range a.Topics {
			member.Assigned[t.Topic] = slices.Sorted(slices.Values(t.Partitions))
		}
	}
	return member
}

// addEnds completes rows with where the partitions end. A partition whose leader
// can't tell has no end and no lag.
func (d *groupDescription) addEnds(ctx context.Context, adm *kadm.Client, rows map[groupPartition]groupOffset) {
	topics := make(map[string]bool)
	for at := range rows {
		topics[at.topic] = true
	}
	ctx, cancel := context.WithTimeout(ctx, offsetsTimeout)
	defer cancel()
	var ends kadm.ListedOffsets
	if len(topics) > 0 { // none would mean all
		ends, _ = adm.ListEndOffsets(ctx, slices.Collect(maps.Keys(topics))...)
	}
	for at, r := range rows {
		if r.End = offsetOf(ends, at.topic, at.partition); r.End != nil && r.Committed != nil {
			lag := max(*r.End-*r.Committed, 0)
			r.Lag = &lag
		}
		d.Offsets = append(d.Offsets, r)
	}
	slices.SortFunc(d.Offsets, func(a, b groupOffset) int {
		if c := strings.Compare(a.Topic, b.Topic); c != 0 {
			return c
		}
		return int(a.Partition) - int(b.Partition)
	})
}

func (d *groupDescription) table(w io.Writer) {
	cells(w, "group", d.Group)
	cells(w, "state", d.State)
	cells(w, "protocol", orDash(strings.Trim(d.ProtocolType+"/"+d.Protocol, "/")))
	cells(w, "coordinator", d.Coordinator)
	fmt.Fprintln(w)
	heading(w, "MEMBER", "INSTANCE", "CLIENT", "HOST", "ASSIGNED")
	for _, m := range d.Members {
		var assigned []string
		for _, topic := range slices.Sorted(maps.Keys(m.Assigned)) {
			assigned = append(assigned, topic+":"+numbers(m.Assigned[topic]))
		}
		cells(w, m.ID, orDash(m.Instance), orDash(m.Client), m.Host, orDash(strings.Join(assigned, " ")))
	}
	fmt.Fprintln(w)
	heading(w, "TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER")
	for _, o := range d.Offsets {
		cells(w, o.Topic, o.Partition, offsetText(o.Committed), offsetText(o.End), offsetText(o.Lag), orDash(o.Member))
	}
}

// refuseMembers says why a group's offsets can't be moved, or nil.
func refuseMembers(g kadm.DescribedGroup) error {
	if len(g.Members) == 0 {
		return nil
	}
	return exitError{exitRefused, errors.New("group " + fmt.Sprintf("%q", g.Group) + " has " + plural(len(g.Members), "member", "members") +
		": they would go on where they are; stop them first (raftsman group describe " + g.Group + " shows them)")}
}
