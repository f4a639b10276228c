package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
)

const (
	// valuesTimeout is how long a replica may take to sum up all its keys.
	valuesTimeout = time.Hour
	// valuesTries is how often that is asked for while replicas go on compacting.
	valuesTries = 10
)

// layouts asks the replicas what their segments are. compacted is where the part
// ends that any of them has compacted, or may compact at any time.
func (c *comparison) layouts(ctx context.Context) (all map[uint64]partition.Layout, compacted int64, err error) {
	err = c.askAll(ctx, func(*verified) verifyRequest { return verifyRequest{Layout: true} })
	all = make(map[uint64]partition.Layout)
	for _, r := range c.replicas {
		if r.reply.Layout != nil { // else it runs a version that compacts nothing
			all[r.ID] = *r.reply.Layout
			compacted = max(compacted, r.reply.Layout.CompactedUpTo)
		}
	}
	return all, compacted, err
}

// compacted verifies the part that may have been compacted, and returns where it
// ends. Each replica's segments are compared with its own checksums; if not all
// replicas have the same segments there, which is no damage, the last values of
// all keys up to to are compared.
func (c *comparison) compacted(ctx context.Context, from, to int64) (next int64, err error) {
	layouts, end, err := c.layouts(ctx)
	if err != nil || end <= from {
		return from, err
	}
	for _, r := range slices.Clone(c.replicas) {
		if err := c.proveBelow(ctx, r, layouts[r.ID].Log.Segments, from, end); err != nil {
			return 0, err
		}
	}
	if sameSegments(layouts, end) {
		return end, nil
	}
	for range valuesTries {
		// What one replica has removed because of a record behind to, another may have.
		if end <= to {
			sums, err := c.values(ctx, from, to)
			if err != nil || sameValues(sums) {
				return end, err
			}
			if layouts, end, err = c.layouts(ctx); err != nil {
				return 0, err
			}
			start := highestStart(layouts)
			if end <= to && start <= from { // nothing of that kind has come meanwhile
				return end, c.reportValues(from, to, sums)
			}
			from = max(from, start)
		}
		if _, to, err = c.bound(ctx); err != nil || len(c.replicas) == 0 {
			return 0, err
		}
	}
	return end, c.incomplete(cluster.Replica{}, "it was compacted again and again meanwhile, or a replica is behind: try again")
}

func highestStart(layouts map[uint64]partition.Layout) (start int64) {
	for _, l := range layouts {
		start = max(start, l.Log.Start)
	}
	return start
}

// proveBelow compares a replica's segments below end with its own checksums.
func (c *comparison) proveBelow(ctx context.Context, r *verified, segments []seglog.SegmentInfo, from, end int64) error {
	for _, info := range segments {
		if info.LastOffset < from || info.Base >= end {
			continue
		}
		why, err := c.prove(ctx, &Copy{Node: r.Node, Replica: r.ID, Segment: info.Base})
		if err != nil {
			return err
		}
		c.v.so.Bytes += info.Bytes
		if why != "" {
			d := wholeDamage(compared{replica: r.Replica}, seglog.Damage{
				Segment: info.Base, File: info.FileName(), Offset: max(info.Base, from), Until: info.LastOffset + 1, Whole: true, Reason: why})
			if err := c.report(ctx, &d); err != nil {
				return err
			}
		}
		if err := errors.Join(c.v.progress(), c.v.pace.wait(ctx, info.Bytes)); err != nil {
			return err
		}
	}
	return nil
}

// values asks all replicas for the last values of their keys.
func (c *comparison) values(ctx context.Context, from, to int64) (map[uint64]seglog.Values, error) {
	err := c.askAll(ctx, func(*verified) verifyRequest {
		return verifyRequest{Values: &seglog.ValuesRequest{From: from, To: to}}
	})
	sums := make(map[uint64]seglog.Values)
	for _, r := range c.replicas {
		if r.reply.Values != nil {
			sums[r.ID] = *r.reply.Values
			c.v.so.Bytes += r.reply.Values.Bytes
		} else if err == nil {
			err = c.incomplete(r.Replica, "it runs a version that can't compare compacted topics")
		}
	}
	return sums, err
}

// reportValues tells that replicas have other last values.
func (c *comparison) reportValues(from, to int64, sums map[uint64]seglog.Values) error {
	d := &Difference{Topic: c.tp.Topic, Partition: c.tp.Partition, Kind: KindDivergence, Offset: from, Last: to - 1}
	for _, r := range c.replicas {
		if v, ok := sums[r.ID]; ok {
			d.Copies = append(d.Copies, Copy{Node: r.Node, Replica: r.ID, State: CopyIntact,
				Reason: fmt.Sprintf("the last values of %d keys have the sum %s", v.Keys, v.Sum)})
		}
	}
	return c.v.emit(VerifyEvent{Difference: d})
}

// sameSegments says whether all replicas have the same files below end.
func sameSegments(layouts map[uint64]partition.Layout, end int64) bool {
	var first []seglog.SegmentInfo
	for _, l := range layouts {
		below := slices.DeleteFunc(slices.Clone(l.Log.Segments), func(s seglog.SegmentInfo) bool { return s.Base >= end })
		if first == nil {
			first = below
		}
		if !slices.Equal(first, below) {
			return false
		}
	}
	return len(first) == 0 || first[len(first)-1].LastOffset < end
}

func sameValues(sums map[uint64]seglog.Values) bool {
	var first *seglog.Values
	for _, v := range sums {
		if first == nil {
			first = &v
		}
		if v.Keys != first.Keys || v.Sum != first.Sum {
			return false
		}
	}
	return true
}
