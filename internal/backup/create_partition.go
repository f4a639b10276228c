package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/raftsman/raftsman/internal/seglog"
)

// partition backs one up. What is in the place already is not read again, or not
// written again.
func (c *creator) partition(ctx context.Context, id string, t Topic, index int32, planned Partition) (got Partition, err error) {
	if sha256, ok := c.parts[partKey(t.ID, index)]; ok {
		part, err := readPart(ctx, c.place, id, t, index, sha256)
		if err == nil {
			c.opts.done.offsetsDone.Add(planned.End - planned.Start)
			got = part.totals()
			got.Part = sha256
			return got, nil
		}
		var damage *DamageError
		if !errors.As(err, &damage) {
			return got, err
		}
		c.opts.Note(err.Error() + "; it is made again")
	}
	w := partWriter{creator: c, topic: t, part: Part{
		Format: Format, Topic: t.Name, TopicID: t.ID, Partition: index, Start: planned.Start, End: planned.End, Compacted: t.Compacted(),
	}}
	if err := w.look(ctx); err != nil {
		return got, err
	}
	if err := w.goOn(ctx); err != nil {
		return got, err
	}
	if err := w.copy(ctx); err != nil {
		return got, err
	}
	got = w.part.totals()
	got.Part, err = putDocument(ctx, c.place, partName(id, t.ID, index), w.part)
	return got, err
}

// partWriter backs up one partition.
type partWriter struct {
	*creator
	topic  Topic
	part   Part
	next   int64            // everything before it is in part.Objects
	buf    []byte           // batches of the next object
	stored map[string]int64 // objects in the place: name to length
}

// look lists what the place has of the partition.
func (w *partWriter) look(ctx context.Context) error {
	w.stored = make(map[string]int64)
	return w.place.List(ctx, dataPrefix(w.topic.ID, w.part.Partition), func(name string, bytes int64) error {
		w.stored[name] = bytes
		return nil
	})
}

// goOn takes over what earlier backups have, if the cluster has it still.
func (w *partWriter) goOn(ctx context.Context) error {
	w.next = w.part.Start
	if w.part.Compacted {
		return nil
	}
	objects, err := w.former(ctx)
	if err != nil {
		return err
	}
	if objects, err = w.interrupted(ctx, objects); err != nil {
		return err
	}
	if len(objects) == 0 || objects[0].First > w.part.Start {
		return nil // what lies before the first may be there still
	}
	last := objects[len(objects)-1]
	same, start, err := w.src.holds(ctx, w.topic.Name, w.topic.ID, w.part.Partition, last, true)
	if err != nil {
		return err
	}
	if !same {
		if start < last.Next {
			w.opts.Note(fmt.Sprintf("%s/%d is not what it was at offset %d: it is read again as a whole", w.topic.Name, w.part.Partition, last.Next-1))
		}
		return nil
	}
	w.part.Start = min(max(w.part.Start, start), w.part.End)
	w.part.Objects = slices.DeleteFunc(objects, func(o Object) bool { return o.Next <= w.part.Start })
	w.opts.done.offsetsDone.Add(last.Next - w.next)
	w.next = last.Next
	w.opts.report()
	return nil
}

// former returns what the last complete backup has of the partition.
func (w *partWriter) former(ctx context.Context) ([]Object, error) {
	if w.last == nil {
		return nil, nil
	}
	t, ok := w.last.topic(w.topic.ID)
	if !ok || int(w.part.Partition) >= len(t.Partitions) {
		return nil, nil
	}
	part, err := readPart(ctx, w.place, w.last.ID, t, w.part.Partition, t.Partitions[w.part.Partition].Part)
	var damage *DamageError
	if errors.As(err, &damage) {
		w.opts.Note(err.Error() + "; it is read again as a whole")
		return nil, nil
	}
	if err != nil || part.Compacted {
		return nil, err
	}
	for i, o := range part.Objects {
		if w.stored[objectName(w.topic.ID, w.part.Partition, o)] != o.Bytes || o.Next > w.part.End {
			return part.Objects[:i], nil
		}
	}
	return part.Objects, nil
}

// interrupted adds what a backup has written that was not completed. It is read, since
// no manifest tells of it.
func (w *partWriter) interrupted(ctx context.Context, objects []Object) ([]Object, error) {
	next := w.part.Start
	if n := len(objects); n > 0 {
		next = objects[n-1].Next
	}
	names := slices.Sorted(maps.Keys(w.stored))
	for i := len(names) - 1; len(objects) == 0 && i >= 0; i-- { // the first one holds the log start
		if o, err := w.read(ctx, names[i], 0, next); err != nil {
			return nil, err
		} else if o != nil {
			objects, next = append(objects, *o), o.Next
		}
	}
	for _, name := range names {
		o, err := w.read(ctx, name, next, next)
		if err != nil {
			return nil, err
		}
		if o != nil {
			objects, next = append(objects, *o), o.Next
		}
	}
	return objects, nil
}

// read describes an object that begins at from or behind it, at next or before it, and
// reaches beyond next; nil if it does not, or is damaged.
func (w *partWriter) read(ctx context.Context, name string, from, next int64) (*Object, error) {
	first, sha256, ok := parseObject(name)
	if !ok || first < from || first > next || w.stored[name] > maxObject {
		return nil, nil
	}
	data, err := w.place.Get(ctx, name, maxObject)
	if err != nil {
		return nil, err
	}
	o, err := describe(data)
	if err != nil || o.SHA256 != sha256 || o.First != first || o.Next <= next || o.Next > w.part.End {
		if err != nil || o.SHA256 != sha256 {
			delete(w.stored, name) // if it is needed it is written anew
		}
		return nil, nil
	}
	return &o, nil
}

// copy reads the rest from the cluster.
func (w *partWriter) copy(ctx context.Context) error {
	empty := 0
	for w.next < w.part.End {
		data, start, end, err := w.src.fetch(ctx, w.topic.Name, w.topic.ID, w.part.Partition, w.next)
		if errors.Is(err, errOutOfRange) && start > w.next {
			w.startRose(min(start, w.part.End))
			continue
		}
		if errors.Is(err, errOutOfRange) {
			return fmt.Errorf("it ends at offset %d now, and ended at %d when the backup began: acknowledged records are gone", end, w.part.End)
		}
		if err != nil {
			return err
		}
		if err := w.opts.read(ctx, len(data)); err != nil {
			return err
		}
		before := w.next
		if err := w.take(ctx, data); err != nil {
			return err
		}
		w.opts.done.offsetsDone.Add(min(w.next, w.part.End) - before)
		w.opts.report()
		if w.next > before {
			empty = 0
		} else if empty++; empty == emptyFetches && end >= w.part.End {
			w.opts.done.offsetsDone.Add(w.part.End - w.next)
			break // compaction has left nothing up to the end
		}
	}
	return w.flush(ctx)
}

// startRose leaves out what retention has removed meanwhile: all that was read, and more.
func (w *partWriter) startRose(start int64) {
	w.opts.done.offsetsDone.Add(start - w.next)
	w.part.Start, w.next, w.part.Objects, w.buf = start, start, nil, nil
}

// take adds batches to the next object, and writes it when it is large enough. The
// first batches may begin before the offset that was asked for.
func (w *partWriter) take(ctx context.Context, data []byte) error {
	for rest := data; len(rest) > 0; {
		b, behind, err := seglog.NextBatch(rest)
		if err != nil && len(rest) < len(data) {
			return nil // cut off by the limit of the answer
		}
		if err != nil {
			return err
		}
		rest = behind
		if b.LastOffset() < w.next {
			continue
		}
		if b.BaseOffset() >= w.part.End {
			w.next = w.part.End
			return nil
		}
		floor := int64(0)
		if len(w.part.Objects) > 0 || len(w.buf) > 0 {
			floor = w.next
		}
		if err := checkBatch(b, floor); err != nil {
			return fmt.Errorf("the cluster's batch at offset %d: %w", w.next, err)
		}
		if b.LastOffset() >= w.part.End {
			return fmt.Errorf("a batch from %d to %d crosses the end, %d", b.BaseOffset(), b.LastOffset(), w.part.End)
		}
		if len(w.buf) > 0 && len(w.buf)+len(b) > w.opts.ObjectBytes {
			if err := w.flush(ctx); err != nil {
				return err
			}
		}
		w.buf = append(w.buf, b...)
		w.next = b.LastOffset() + 1
		if w.part.Compacted && len(w.buf) > w.opts.ObjectBytes/2 && b.CRC()%8 == 0 {
			// Where compaction has changed something before it, objects soon end at the
			// same batches again, and need not be written again.
			if err := w.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *partWriter) flush(ctx context.Context) error {
	if len(w.buf) == 0 {
		return nil
	}
	o, err := describe(w.buf)
	if err != nil {
		return err
	}
	name := objectName(w.topic.ID, w.part.Partition, o)
	if w.stored[name] != o.Bytes {
		if err := w.place.Put(ctx, name, w.buf); err != nil {
			return err
		}
	}
	w.part.Objects = append(w.part.Objects, o)
	w.buf = w.buf[:0]
	return nil
}
