package dashboard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	maxOffsets = 5000 // partitions of a topic whose offsets are asked for
	maxGroups  = 1000 // that are listed
	maxLags    = 200  // groups whose lag is asked for
)

// Offsets are where a topic's partitions begin and end; null: its leader can't tell.
type Offsets struct {
	At    int64    `json:"at"` // milliseconds since 1970
	Start []*int64 `json:"start"`
	End   []*int64 `json:"end"`
	Cut   string   `json:"cut,omitempty"` // why there are none
}

func (k *kafkaSide) offsets(ctx context.Context, topic string) (any, error) {
	adm, err := k.admin()
	if err != nil {
		return nil, err
	}
	m, err := adm.Metadata(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("ask for topic %q: %w", topic, err)
	}
	t, ok := m.Topics[topic]
	switch {
	case !ok, errors.Is(t.Err, kerr.UnknownTopicOrPartition), errors.Is(t.Err, kerr.InvalidTopicException):
		return nil, unknownError{fmt.Errorf("topic %q does not exist", topic)}
	case t.Err != nil:
		return nil, fmt.Errorf("ask for topic %q: %w", topic, t.Err)
	}
	o := Offsets{At: k.now().UnixMilli(), Start: []*int64{}, End: []*int64{}}
	if len(t.Partitions) > maxOffsets {
		o.Cut = fmt.Sprintf("offsets of topics with more than %d partitions: raftsman topic describe", maxOffsets)
		return o, nil
	}
	// An error is one of some partitions: their offsets stay unknown.
	starts, _ := adm.ListStartOffsets(ctx, topic)
	ends, _ := adm.ListEndOffsets(ctx, topic)
	for i := range int32(len(t.Partitions)) {
		o.Start, o.End = append(o.Start, offsetOf(starts, topic, i)), append(o.End, offsetOf(ends, topic, i))
	}
	return o, nil
}

func offsetOf(listed kadm.ListedOffsets, topic string, partition int32) *int64 {
	o, ok := listed.Lookup(topic, partition)
	if !ok || o.Err != nil {
		return nil
	}
	return &o.Offset
}

// Group is a consumer group in a list.
type Group struct {
	Name         string `json:"group"`
	State        string `json:"state"`
	ProtocolType string `json:"protocol_type"`
	Coordinator  int32  `json:"coordinator"`
	Members      *int   `json:"members"`
	Partitions   *int   `json:"partitions"` // with a committed offset or a member
	Lag          *int64 `json:"lag"`        // of those partitions whose lag is known
	Unknown      int    `json:"unknown"`    // partitions whose lag is not
}

// Groups are all groups, by name.
type Groups struct {
	At     int64   `json:"at"`
	Total  int     `json:"total"`
	Groups []Group `json:"groups"`
	Cut    string  `json:"cut,omitempty"` // what is left out
	Failed string  `json:"failed,omitempty"`
}

func (k *kafkaSide) groups(ctx context.Context) (any, error) {
	adm, err := k.admin()
	if err != nil {
		return nil, err
	}
	listed, err := adm.ListGroups(ctx)
	if err != nil && len(listed) == 0 {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	all := Groups{At: k.now().UnixMilli(), Total: len(listed), Groups: []Group{}}
	if err != nil {
		all.Failed = "some nodes did not list their groups: " + err.Error()
	}
	for _, g := range listed.Sorted() {
		if len(all.Groups) < maxGroups {
			all.Groups = append(all.Groups, Group{Name: g.Group, State: g.State, ProtocolType: g.ProtocolType, Coordinator: g.Coordinator})
		}
	}
	known := all.Groups[:min(len(all.Groups), maxLags)]
	if len(known) < len(listed) {
		all.Cut = fmt.Sprintf("lag is shown of the first %d groups, and %d of %d are listed", len(known), len(all.Groups), len(listed))
	}
	if len(known) == 0 {
		return all, nil
	}
	names := make([]string, len(known))
	for i, g := range known {
		names[i] = g.Name
	}
	details, err := describeGroups(ctx, adm, names)
	if err != nil {
		return nil, err
	}
	for i := range known {
		g := &known[i]
		d, ok := details[g.Name]
		if !ok {
			continue
		}
		members, partitions, lag := len(d.Members), len(d.Offsets), int64(0)
		g.State, g.Members, g.Partitions, g.Lag = d.State, &members, &partitions, &lag
		for _, o := range d.Offsets {
			if o.Lag == nil {
				g.Unknown++
			} else {
				lag += *o.Lag
			}
		}
	}
	return all, nil
}

// GroupDetails are a group with its members and offsets: what raftsman group
// describe says.
type GroupDetails struct {
	At           int64         `json:"at"`
	Name         string        `json:"group"`
	State        string        `json:"state"`
	ProtocolType string        `json:"protocol_type"`
	Protocol     string        `json:"protocol"`
	Coordinator  int32         `json:"coordinator"`
	Members      []GroupMember `json:"members"`
	Offsets      []GroupOffset `json:"offsets"`
}

// GroupMember is a member; what it is assigned is null unless it is a consumer.
type GroupMember struct {
	ID       string             `json:"member_id"`
	Instance string             `json:"instance_id,omitempty"`
	Client   string             `json:"client_id"`
	Host     string             `json:"host"`
	Assigned map[string][]int32 `json:"assigned"`
}

// GroupOffset is a partition that the group reads or has read. What is not known,
// or was never committed, is null.
type GroupOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed *int64 `json:"committed"`
	End       *int64 `json:"end"`
	Lag       *int64 `json:"lag"`
	Member    string `json:"member_id,omitempty"`
}

func (k *kafkaSide) group(ctx context.Context, name string) (any, error) {
	adm, err := k.admin()
	if err != nil {
		return nil, err
	}
	all, err := describeGroups(ctx, adm, []string{name})
	if err != nil {
		return nil, err
	}
	g, ok := all[name]
	if !ok {
		return nil, unknownError{fmt.Errorf("group %q does not exist", name)}
	}
	g.At = k.now().UnixMilli()
	return g, nil
}

// describeGroups leaves out groups that do not exist or whose coordinator does not
// answer; that is an error only of a single one.
func describeGroups(ctx context.Context, adm *kadm.Client, names []string) (map[string]*GroupDetails, error) {
	described, err := adm.DescribeGroups(ctx, names...)
	if err != nil && len(described) == 0 {
		return nil, fmt.Errorf("describe groups: %w", err)
	}
	committed := adm.FetchManyOffsets(ctx, names...)
	found, topics := make(map[string]*GroupDetails), make(map[string]bool)
	for _, name := range names {
		g, ok := described[name]
		if !ok || errors.Is(g.Err, kerr.GroupIDNotFound) || g.Err == nil && g.State == "Dead" {
			continue
		}
		if err := errors.Join(g.Err, committed[name].Err); err != nil {
			if len(names) == 1 {
				return nil, fmt.Errorf("describe group %q: %w", name, err)
			}
			continue
		}
		d := details(g, committed[name].Fetched)
		for _, o := range d.Offsets {
			topics[o.Topic] = true
		}
		found[name] = d
	}
	if len(topics) == 0 {
		return found, nil // no topic would mean all
	}
	// An error is one of some partitions: their end and lag stay unknown.
	ends, _ := adm.ListEndOffsets(ctx, slices.Collect(maps.Keys(topics))...)
	for _, d := range found {
		for i := range d.Offsets {
			o := &d.Offsets[i]
			if o.End = offsetOf(ends, o.Topic, o.Partition); o.End != nil && o.Committed != nil {
				lag := max(*o.End-*o.Committed, 0)
				o.Lag = &lag
			}
		}
	}
	return found, nil
}

func details(g kadm.DescribedGroup, committed kadm.OffsetResponses) *GroupDetails {
	d := &GroupDetails{
		Name: g.Group, State: g.State, ProtocolType: g.ProtocolType, Protocol: g.Protocol, Coordinator: g.Coordinator.NodeID,
		Members: []GroupMember{}, Offsets: []GroupOffset{},
	}
	type at struct {
		topic     string
		partition int32
	}
	rows := make(map[at]*GroupOffset)
	row := func(topic string, partition int32) *GroupOffset {
		key := at{topic, partition}
		if rows[key] == nil {
			rows[key] = &GroupOffset{Topic: topic, Partition: partition}
		}
		return rows[key]
	}
	committed.Each(func(o kadm.OffsetResponse) {
		if o.At >= 0 {
			row(o.Topic, o.Partition).Committed = &o.At
		}
	})
	for _, m := range g.Members {
		member := GroupMember{ID: m.MemberID, Client: m.ClientID, Host: strings.TrimPrefix(m.ClientHost, "/")}
		if m.InstanceID != nil {
			member.Instance = *m.InstanceID
		}
		if a, ok := m.Assigned.AsConsumer(); ok {
			member.Assigned = make(map[string][]int32)
			for _, t := range a.Topics {
				member.Assigned[t.Topic] = slices.Sorted(slices.Values(t.Partitions))
				for _, p := range t.Partitions {
					row(t.Topic, p).Member = m.MemberID
				}
			}
		}
		d.Members = append(d.Members, member)
	}
	for _, r := range rows {
		d.Offsets = append(d.Offsets, *r)
	}
	slices.SortFunc(d.Offsets, func(a, b GroupOffset) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return d
}
