package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/raftsman/raftsman/internal/group"
	"github.com/raftsman/raftsman/internal/seglog"
)

// loadChunk is how much of the log is read at once.
const loadChunk = 1 << 20

var errTermOver = errors.New("the term is over")

// load waits until the replica may serve and returns a machine that knows what
// the log holds. errTermOver says that the replica no longer leads in the term.
func (c *Coordinator) load(ctx context.Context) (*group.Machine, error) {
	start, end, err := c.awaitLog(ctx)
	if err != nil {
		return nil, err
	}
	began := c.opts.Now()
	c.mu.Lock()
	m := group.New(c.groups)
	c.altered = false
	c.mu.Unlock()
	records, unread := 0, 0
	for at := start; at < end; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		chunk, err := c.opts.Log.Read(at, loadChunk)
		if err != nil {
			if _, _, ok := c.opts.Log.Serves(c.opts.Term); !ok {
				return nil, errTermOver
			}
			return nil, fmt.Errorf("read from offset %d: %w", at, err)
		}
		if len(chunk) == 0 {
			break // the log starts later by now, or all that is left was compacted away
		}
		for len(chunk) > 0 {
			var b seglog.Batch
			if b, chunk, err = seglog.NextBatch(chunk); err != nil {
				return nil, fmt.Errorf("batch at offset %d: %w", at, err)
			}
			if b.LastOffset() < at {
				return nil, fmt.Errorf("batch with offsets up to %d where %d should be", b.LastOffset(), at)
			}
			at = b.LastOffset() + 1
			if b.Control() {
				continue
			}
			err := seglog.Records(b, func(offset, _ int64, key, value []byte) bool {
				records++
				// Clone keeps nil, a tombstone, and empty apart.
				if err := m.Load(group.Record{Key: slices.Clone(key), Value: slices.Clone(value)}, began); err != nil {
					if unread++; unread == 1 {
						c.log.Warn("a record of a consumer group can't be read and does not count", "offset", offset, "err", err)
					}
				}
				return true
			})
			if err != nil {
				return nil, fmt.Errorf("records of the batch at offset %d: %w", b.BaseOffset(), err)
			}
		}
	}
	took := c.opts.Now().Sub(began)
	c.opts.Metrics.loaded(took)
	c.log.Info("coordinates the groups of the partition", "term", c.opts.Term, "records", records, "unreadable", unread,
		"end", end, "took", took)
	return m, nil
}

// awaitLog returns the log's bounds when the replica may serve.
func (c *Coordinator) awaitLog(ctx context.Context) (start, end int64, err error) {
	for {
		changed := c.opts.Log.Changed()
		if start, end, ok := c.opts.Log.Serves(c.opts.Term); ok {
			return start, end, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
}
