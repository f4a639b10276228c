package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
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
