package backup

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// plan returns that of an interrupted backup, or writes a new one.
func (c *creator) plan(ctx context.Context, known []Listed) (m Manifest, err error) {
	cluster, err := c.src.adm.BrokerMetadata(ctx)
	if err != nil {
		return m, fmt.Errorf("ask for the cluster: %w", err)
	}
	if n := len(known); n > 0 && !known[n-1].Complete && known[n-1].Err == nil && !c.opts.New {
		m, err := readManifest(ctx, c.place, known[n-1])
		switch {
		case err != nil:
			return m, fmt.Errorf("%w; begin another with --new", err)
		case m.ClusterID != cluster.Cluster:
			c.opts.Note(fmt.Sprintf("backup %s was interrupted and is of another cluster; a new one begins", m.ID))
		case !slices.Equal(m.Selection, c.opts.Topics) || m.NoGroups != c.opts.NoGroups:
			c.opts.Note(fmt.Sprintf("backup %s was interrupted and is of other topics; a new one begins", m.ID))
		default:
			c.opts.Note(fmt.Sprintf("backup %s was interrupted and goes on", m.ID))
			return m, nil
		}
	}
	now := c.opts.Now().UTC().Truncate(time.Millisecond)
	m = Manifest{
		Format: Format, ID: now.Format(idLayout), ClusterID: cluster.Cluster, Created: now,
		Selection: c.opts.Topics, NoGroups: c.opts.NoGroups, Topics: []Topic{}, Groups: []Group{},
	}
	if slices.ContainsFunc(known, func(l Listed) bool { return l.ID >= m.ID }) {
		return m, fmt.Errorf("there is a backup of now or later in %s: is the clock right?", c.place)
	}
	if m.Topics, err = c.topics(ctx); err != nil {
		return m, err
	}
	// Before the ends: no group may be behind the end of its partition.
	if !c.opts.NoGroups {
		if m.Groups, err = c.groups(ctx, m.Topics); err != nil {
			return m, err
		}
	}
	if err := c.ends(ctx, m.Topics); err != nil {
		return m, err
	}
	_, err = putDocument(ctx, c.place, planName(m.ID), m)
	return m, err
}

// topics lists those that were asked for.
func (c *creator) topics(ctx context.Context) (topics []Topic, err error) {
	for _, pattern := range c.opts.Topics {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("topic %q is no pattern: %w", pattern, err)
		}
	}
	details, err := c.src.adm.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	hit := make(map[string]bool)
	var names []string
	for _, t := range details.Sorted() {
		if t.IsInternal || !c.wanted(t.Topic, hit) {
			continue
		}
		if t.Err != nil {
			return nil, fmt.Errorf("topic %s: %w", t.Topic, t.Err)
		}
		topic := Topic{Name: t.Topic, ID: uuidOf(t.ID), ReplicationFactor: int16(max(t.Partitions.NumReplicas(), 1)), Partitions: make([]Partition, len(t.Partitions))}
		topics, names = append(topics, topic), append(names, t.Topic)
	}
	for _, pattern := range c.opts.Topics {
		if !hit[pattern] {
			return nil, fmt.Errorf("there is no topic %q", pattern)
		}
	}
	if len(topics) == 0 {
		return []Topic{}, nil
	}
	configs, err := c.src.adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("ask for the topics' configurations: %w", err)
	}
	for i, t := range topics {
		rc, err := configs.On(t.Name, nil)
		if err == nil {
			err = rc.Err
		}
		if err != nil {
			return nil, fmt.Errorf("ask for the configuration of topic %s: %w", t.Name, err)
		}
		topics[i].Config = changed(rc)
	}
	return topics, nil
}

func (c *creator) wanted(topic string, hit map[string]bool) bool {
	found := len(c.opts.Topics) == 0
	for _, pattern := range c.opts.Topics {
		if ok, _ := path.Match(pattern, topic); ok {
			hit[pattern], found = true, true
		}
	}
	return found
}

// groups lists what groups have committed for the topics.
func (c *creator) groups(ctx context.Context, topics []Topic) ([]Group, error) {
	size := make(map[string]int)
	for _, t := range topics {
		size[t.Name] = len(t.Partitions)
	}
	var listed kadm.ListedGroups
	err := retry(ctx, func() (err error) {
		listed, err = c.src.adm.ListGroups(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	all := []Group{}
	for _, name := range listed.Groups() {
		offsets, err := c.src.offsets(ctx, name)
		if err != nil {
			return nil, err
		}
		g := Group{Group: name}
		for _, o := range offsets.Sorted() {
			if o.At >= 0 && int(o.Partition) < size[o.Topic] {
				g.Offsets = append(g.Offsets, Offset{o.Topic, o.Partition, o.At, o.Metadata})
			}
		}
		if len(g.Offsets) > 0 {
			all = append(all, g)
		}
	}
	return all, nil
}

// ends notes where each partition begins and ends.
func (c *creator) ends(ctx context.Context, topics []Topic) error {
	if len(topics) == 0 {
		return nil
	}
	var names []string
	for _, t := range topics {
		names = append(names, t.Name)
	}
	ends, starts := kadm.ListedOffsets{}, kadm.ListedOffsets{}
	err := retry(ctx, func() (err error) {
		if ends, err = c.src.adm.ListEndOffsets(ctx, names...); err == nil {
			if err = ends.Error(); err == nil {
				if starts, err = c.src.adm.ListStartOffsets(ctx, names...); err == nil {
					err = starts.Error()
				}
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("ask where partitions begin and end: %w", err)
	}
	for _, t := range topics {
		for i := range t.Partitions {
			end, ok := ends.Lookup(t.Name, int32(i))
			start, also := starts.Lookup(t.Name, int32(i))
			if !ok || !also {
				return fmt.Errorf("nobody said where %s/%d ends", t.Name, i)
			}
			t.Partitions[i] = Partition{Start: min(start.Offset, end.Offset), End: end.Offset}
		}
	}
	return nil
}

// changed are the settings that are the topic's own.
func changed(rc kadm.ResourceConfig) map[string]string {
	own := make(map[string]string)
	for _, c := range rc.Configs {
		if strings.EqualFold(c.Source.String(), "DYNAMIC_TOPIC_CONFIG") && c.Value != nil {
			own[c.Key] = *c.Value
		}
	}
	return own
}
