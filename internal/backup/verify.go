package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/sync/errgroup"
)

// VerifyOptions say how a backup is verified.
type VerifyOptions struct {
	Work
	// Damage is told of each place that is damaged, one at a time.
	Damage func(*DamageError)
}

// Verify reads all of a backup and compares it with its checksums. The error is about
// reading, or what kept it from looking at all; damage is told of as it is found.
func Verify(ctx context.Context, place Place, m Manifest, opts VerifyOptions) error {
	opts.begin()
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			opts.done.partitions.Add(1)
			opts.done.offsets.Add(p.End - p.Start)
		}
	}
	var mu sync.Mutex
	tell := func(err error) error {
		var damage *DamageError
		if !errors.As(err, &damage) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		opts.Damage(damage)
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(opts.Concurrency)
	for _, t := range m.Topics {
		for i, p := range t.Partitions {
			group.Go(func() error {
				defer opts.report()
				defer opts.done.partitionsDone.Add(1)
				part, err := readSummed(ctx, place, m.ID, t, int32(i))
				if err != nil {
					opts.done.offsetsDone.Add(p.End - p.Start)
					return tell(err)
				}
				at := p.Start
				for _, o := range part.Objects {
					if _, err := readObject(ctx, place, &opts.Work, part, o); err != nil {
						if err := tell(err); err != nil {
							return err
						}
					}
					opts.done.offsetsDone.Add(o.Next - at)
					at = o.Next
					opts.report()
				}
				opts.done.offsetsDone.Add(p.End - at)
				return nil
			})
		}
	}
	return group.Wait()
}

// readSummed reads a part of a complete backup, which must be what the manifest says.
func readSummed(ctx context.Context, place Place, id string, t Topic, index int32) (*Part, error) {
	p := t.Partitions[index]
	part, err := readPart(ctx, place, id, t, index, p.Part)
	if err != nil {
		return nil, err
	}
	have := part.totals()
	have.Part = p.Part
	if have != p {
		return nil, &DamageError{Object: partName(id, t.ID, index), Topic: t.Name, Partition: index, First: p.Start, Next: p.End,
			Reason: fmt.Sprintf("it says %+v, the manifest %+v", have, p)}
	}
	return part, nil
}

// readObject reads an object as a whole and checks it.
func readObject(ctx context.Context, place Place, w *Work, part *Part, o Object) ([]byte, error) {
	name := objectName(part.TopicID, part.Partition, o)
	data, err := place.Get(ctx, name, maxObject)
	lost := &DamageError{Object: name, To: o.Bytes, Topic: part.Topic, Partition: part.Partition, First: o.First, Next: o.Next}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		lost.Reason = "it is missing"
		return nil, lost
	case errors.Is(err, errTooLong):
		lost.Reason = err.Error()
		return nil, lost
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if err := w.read(ctx, len(data)); err != nil {
		return nil, err
	}
	return data, o.verify(name, part, data)
}
