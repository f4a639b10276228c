package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// RestoreOptions say what to restore, and how.
type RestoreOptions struct {
	// Topics are names or patterns of the backup's topics; none is all.
	Topics []string
	// Rename gives topics other names.
	Rename map[string]string
	// ReplicationFactor of the topics that are made; 0: as they had.
	ReplicationFactor int16
	// Config is set for all topics that are made, over what they had.
	Config   map[string]string
	NoGroups bool
	// OverwriteGroups replaces offsets that a group has committed already.
	OverwriteGroups bool
	Work
}

// Restore makes the topics of a backup in a cluster, fills them, and commits the
// groups' offsets. What was restored already is not sent again. Partitions take
// records from producers when all of it is done.
func Restore(ctx context.Context, place Place, m Manifest, client *kgo.Client, call Caller, opts RestoreOptions) (done Restored, err error) {
	opts.begin()
	r := restorer{place: place, m: m, src: newSource(client), target: target{call: call}, opts: &opts}
	if r.topics, err = r.choose(); err != nil {
		return done, err
	}
	nodes, err := r.target.nodes(ctx)
	if err != nil {
		return done, err
	}
	groups := r.groups()
	if err := r.checkGroups(ctx, groups); err != nil {
		return done, err
	}
	if err := r.makeTopics(ctx); err != nil {
		return done, err
	}
	if err := r.target.raiseProducerIDs(ctx, nodes, r.producerFloor()); err != nil {
		return done, err
	}
	for _, t := range r.topics {
		for _, p := range t.Partitions {
			opts.done.partitions.Add(1)
			opts.done.offsets.Add(p.End - p.Start)
		}
	}
	// All of them first, so that no producer gets a record into one of them.
	if err := r.each(ctx, r.begin); err != nil {
		return done, err
	}
	if err := r.each(ctx, r.fill); err != nil {
		return done, err
	}
	for _, g := range groups {
		if err := r.commit(ctx, g); err != nil {
			return done, err
		}
	}
	if err := r.each(ctx, r.open); err != nil {
		return done, err
	}
	done.Groups = len(groups)
	for _, t := range r.topics {
		one := RestoredTopic{Topic: t.Name, As: t.into, Partitions: len(t.Partitions)}
		for _, p := range t.Partitions {
			one.Batches, one.Bytes = one.Batches+p.Batches, one.Bytes+p.Bytes
		}
		done.Topics = append(done.Topics, one)
	}
	return done, nil
}

// Restored is what was restored.
type Restored struct {
	Topics []RestoredTopic `json:"topics"`
	Groups int             `json:"groups"`
}

// RestoredTopic is one of them.
type RestoredTopic struct {
	Topic      string `json:"topic"`
	As         string `json:"as"`
	Partitions int    `json:"partitions"`
	Batches    int64  `json:"batches"`
	Bytes      int64  `json:"bytes"`
}

// restorer restores one backup.
type restorer struct {
	place  Place
	m      Manifest
	src    *source // the cluster to restore into
	target target
	opts   *RestoreOptions
	topics []chosen

	mu     sync.Mutex
	filled map[string]int64 // next offsets of the partitions that are being filled
}

// chosen is a topic to restore, and what its name shall be.
type chosen struct {
	Topic
	into string
}

func (r *restorer) choose() (all []chosen, err error) {
	hit := make(map[string]bool)
	into := make(map[string]string)
	for _, t := range r.m.Topics {
		found := len(r.opts.Topics) == 0
		for _, pattern := range r.opts.Topics {
			ok, err := path.Match(pattern, t.Name)
			if err != nil {
				return nil, fmt.Errorf("topic %q is no pattern: %w", pattern, err)
			}
			if ok {
				hit[pattern], found = true, true
			}
		}
		if !found {
			continue
		}
		c := chosen{t, t.Name}
		if name, ok := r.opts.Rename[t.Name]; ok {
			c.into, hit["rename "+t.Name] = name, true
		}
		if was, ok := into[c.into]; ok || !validTopic(c.into) {
			return nil, fmt.Errorf("topic %s can't be restored as %q (%s)", t.Name, c.into, firstOf(was, "no legal name"))
		}
		into[c.into] = t.Name
		all = append(all, c)
	}
	for _, pattern := range r.opts.Topics {
		if !hit[pattern] {
			return nil, fmt.Errorf("backup %s has no topic %q", r.m.ID, pattern)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.opts.Rename)) {
		if !hit["rename "+name] {
			return nil, fmt.Errorf("topic %q is to be renamed, and is not restored", name)
		}
	}
	return all, nil
}

// groups are those with offsets of the topics, under the new names.
func (r *restorer) groups() (all []Group) {
	if r.opts.NoGroups {
		return nil
	}
	into := make(map[string]string)
	for _, t := range r.topics {
		into[t.Name] = t.into
	}
	for _, g := range r.m.Groups {
		mine := Group{Group: g.Group}
		for _, o := range g.Offsets {
			if name, ok := into[o.Topic]; ok {
				o.Topic = name
				mine.Offsets = append(mine.Offsets, o)
			}
		}
		if len(mine.Offsets) > 0 {
			all = append(all, mine)
		}
	}
	return all
}

// checkGroups refuses to take offsets away from groups that go on in the cluster.
func (r *restorer) checkGroups(ctx context.Context, groups []Group) error {
	if r.opts.OverwriteGroups {
		return nil
	}
	for _, g := range groups {
		have, err := r.src.offsets(ctx, g.Group)
		if err != nil {
			return err
		}
		for _, o := range g.Offsets {
			if at, ok := have.Lookup(o.Topic, o.Partition); ok && at.Err == nil && at.At >= 0 && at.At != o.Offset {
				return fmt.Errorf("group %s has committed offset %d of %s/%d, and %d in the backup: overwrite the groups, or leave them out",
					g.Group, at.At, o.Topic, o.Partition, o.Offset)
			}
		}
	}
	return nil
}

func (r *restorer) commit(ctx context.Context, g Group) error {
	offsets := make(kadm.Offsets)
	for _, o := range g.Offsets {
		// Leader epochs are those of another cluster.
		offsets.Add(kadm.Offset{Topic: o.Topic, Partition: o.Partition, At: o.Offset, LeaderEpoch: -1, Metadata: o.Metadata})
	}
	err := retry(ctx, func() error { return r.src.adm.CommitAllOffsets(ctx, g.Group, offsets) })
	if errors.Is(err, kerr.UnknownMemberID) {
		err = errors.New("it has members: stop them and restore again")
	}
	if err != nil {
		return fmt.Errorf("commit the offsets of group %s: %w", g.Group, err)
	}
	return nil
}

// makeTopics makes those that are not there.
func (r *restorer) makeTopics(ctx context.Context) error {
	if len(r.topics) == 0 {
		return nil
	}
	there, err := r.src.adm.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, t := range r.topics {
		if have, ok := there[t.into]; ok && have.Err == nil {
			if len(have.Partitions) != len(t.Partitions) {
				return fmt.Errorf("topic %s is there and has %d partitions, the one in the backup %d: restore it under another name", t.into, len(have.Partitions), len(t.Partitions))
			}
			continue
		}
		config := make(map[string]*string)
		for _, from := range []map[string]string{t.Config, r.opts.Config} {
			for k, v := range from {
				config[k] = &v
			}
		}
		factor := t.ReplicationFactor
		if r.opts.ReplicationFactor > 0 {
			factor = r.opts.ReplicationFactor
		}
		resp, err := r.src.adm.CreateTopic(ctx, int32(len(t.Partitions)), factor, config, t.into)
		if err != nil && resp.ErrMessage != "" {
			err = fmt.Errorf("%w: %s", err, resp.ErrMessage)
		}
		if errors.Is(err, kerr.InvalidReplicationFactor) {
			err = fmt.Errorf("%w; choose another replication factor", err)
		}
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", t.into, err)
		}
	}
	return nil
}

// producerFloor is above all producer ids of the backup.
func (r *restorer) producerFloor() (floor int64) {
	for _, t := range r.topics {
		for _, p := range t.Partitions {
			floor = max(floor, p.MaxProducerID+1)
		}
	}
	return floor
}

// each does something for all partitions, some at a time.
func (r *restorer) each(ctx context.Context, do func(context.Context, chosen, int32) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.opts.Concurrency)
	for _, t := range r.topics {
		for i := range t.Partitions {
			group.Go(func() error {
				if err := do(ctx, t, int32(i)); err != nil {
					return fmt.Errorf("restore %s/%d: %w", t.into, i, err)
				}
				return nil
			})
		}
	}
	return group.Wait()
}
