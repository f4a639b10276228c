package backup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// Limits of the options.
const (
	DefaultObjectBytes = 16 << 20
	MinObjectBytes     = 64 << 10
	MaxObjectBytes     = 64 << 20
)

// CreateOptions say what to back up, and how.
type CreateOptions struct {
	// Topics are names or patterns (path.Match); none is all but the internal ones.
	Topics   []string
	NoGroups bool
	// New begins another backup even if one was interrupted.
	New bool
	Work
	// ObjectBytes is about the size of an object; default 16 MiB.
	ObjectBytes int
	// Now is the clock; default the system's.
	Now func() time.Time
}

// Work says how much may be done at a time, and who hears of it.
type Work struct {
	Concurrency int   // partitions at a time; default 4
	Rate        int64 // bytes a second, read from the cluster or the place; 0 is no limit
	// Progress is told of each step; Note of what a person should know. They may be
	// called from several goroutines, and may be nil.
	Progress func(Progress)
	Note     func(string)

	limit *rate.Limiter
	done  *counters
}

// Progress is how far something is.
type Progress struct {
	Partitions, PartitionsDone int64
	Offsets, OffsetsDone       int64
	Bytes                      int64 // read so far
}

type counters struct{ partitions, partitionsDone, offsets, offsetsDone, bytes atomic.Int64 }

// begin fills in what is not set.
func (w *Work) begin() {
	if w.Concurrency <= 0 {
		w.Concurrency = 4
	}
	if w.Progress == nil {
		w.Progress = func(Progress) {}
	}
	if w.Note == nil {
		w.Note = func(string) {}
	}
	w.limit = rate.NewLimiter(rate.Inf, 0)
	if w.Rate > 0 {
		w.limit = rate.NewLimiter(rate.Limit(w.Rate), int(min(w.Rate, 1<<30)))
	}
	w.done = new(counters)
}

// read counts bytes that were read, and waits if they came too fast.
func (w *Work) read(ctx context.Context, n int) error {
	w.done.bytes.Add(int64(n))
	for n > 0 && w.Rate > 0 {
		step := min(n, w.limit.Burst())
		if err := w.limit.WaitN(ctx, step); err != nil {
			return err
		}
		n -= step
	}
	return ctx.Err()
}

func (w *Work) report() {
	d := w.done
	w.Progress(Progress{d.partitions.Load(), d.partitionsDone.Load(), d.offsets.Load(), d.offsetsDone.Load(), d.bytes.Load()})
}

// Create makes a backup, or goes on with one of the same topics that was interrupted.
// What it returns is complete and durable.
func Create(ctx context.Context, place Place, client *kgo.Client, opts CreateOptions) (m Manifest, err error) {
	opts.begin()
	if opts.ObjectBytes == 0 {
		opts.ObjectBytes = DefaultObjectBytes
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	src := newSource(client)
	known, err := List(ctx, place)
	if err != nil {
		return m, err
	}
	c := creator{place: place, src: src, opts: opts}
	plan, err := c.plan(ctx, known)
	if err != nil {
		return m, err
	}
	if err := c.lookBack(ctx, known, plan.ClusterID); err != nil {
		return m, err
	}
	if c.parts, err = listParts(ctx, place, plan.ID); err != nil {
		return m, err
	}
	m = plan
	if err := c.partitions(ctx, &m); err != nil {
		return m, err
	}
	m.Completed = opts.Now().UTC()
	_, err = putDocument(ctx, place, manifestName(m.ID), m)
	return m, err
}

// creator makes one backup.
type creator struct {
	place Place
	src   *source
	opts  CreateOptions
	last  *Manifest         // the last complete backup of this cluster in the place
	parts map[string]string // of this backup: topic id and partition to SHA-256
}

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
	listed, err := c.src.adm.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	all := []Group{}
	for _, name := range listed.Groups() {
		offsets, err := c.src.adm.FetchOffsets(ctx, name)
		if err == nil {
			err = offsets.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("ask for the offsets of group %s: %w", name, err)
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

// retry tries until it succeeds, for a while.
func retry(ctx context.Context, try func() error) error {
	until := time.Now().Add(patience)
	for {
		err := try()
		if err == nil || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
		if wait(ctx, retryAfter) != nil {
			return err
		}
	}
}

// lookBack finds the last complete backup of the cluster.
func (c *creator) lookBack(ctx context.Context, known []Listed, cluster string) error {
	for _, l := range slices.Backward(known) {
		if !l.Complete || l.Err != nil {
			continue
		}
		m, err := readManifest(ctx, c.place, l)
		var damage *DamageError
		if errors.As(err, &damage) {
			c.opts.Note(fmt.Sprintf("backup %s can't be built upon: %v", l.ID, err))
			continue
		}
		if err != nil {
			return err
		}
		if m.ClusterID == cluster {
			c.last = &m
			return nil
		}
	}
	return nil
}

// partitions backs all of them up and fills in what is known of them then.
func (c *creator) partitions(ctx context.Context, m *Manifest) error {
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			c.opts.done.partitions.Add(1)
			c.opts.done.offsets.Add(p.End - p.Start)
		}
	}
	c.opts.report()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.opts.Concurrency)
	for _, t := range m.Topics {
		for i := range t.Partitions {
			group.Go(func() error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				before := t.Partitions[i]
				got, err := c.partition(ctx, m.ID, t, int32(i), before)
				if err != nil {
					return fmt.Errorf("back up %s/%d: %w", t.Name, i, err)
				}
				t.Partitions[i] = got
				c.opts.done.partitionsDone.Add(1)
				c.opts.report()
				return nil
			})
		}
	}
	return group.Wait()
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
