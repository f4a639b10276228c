package coordinator

import (
	"slices"

	"github.com/raftsman/raftsman/internal/partition"
)

// Log is a replica of a partition of __consumer_offsets.
type Log interface {
	// Serves says whether the replica leads in a term and has applied all of
	// earlier ones; then its offsets are those of the log.
	Serves(term uint64) (start, end int64, ok bool)
	// Changed returns a channel that is closed when Serves may say something
	// else. Take it before looking.
	Changed() <-chan struct{}
	// Read returns whole batches, back to back, from the one that holds offset on,
	// about maxBytes of them and at least one. The caller owns the bytes.
	Read(offset int64, maxBytes int) ([]byte, error)
	// Append stores a batch if it is committed in the given term. It never
	// blocks, and calls done once, on any goroutine, with nil when the batch is
	// committed. Errors: partition's.
	Append(term uint64, batch []byte, done func(error))
	// MaxBatch is the size of the largest batch that Append takes for now.
	MaxBatch() int
	// Verify returns nil once a majority has confirmed that the replica has led in
	// a term from before the call on.
	Verify(term uint64) error
}

// Of is the log of a replica.
func Of(p *partition.Partition) Log { return replica{p} }

type replica struct{ p *partition.Partition }

func (r replica) Serves(term uint64) (start, end int64, ok bool) {
	o, leading := r.p.Offsets()
	return o.Start, o.HighWatermark, leading && uint64(o.Epoch) == term
}

func (r replica) Changed() <-chan struct{} { return r.p.Changed() }

func (r replica) Read(offset int64, maxBytes int) ([]byte, error) {
	data, _, err := r.p.Read(offset, maxBytes, true)
	if err != nil {
		return nil, err
	}
	defer data.Release()
	return slices.Concat(data.Bytes()...), nil
}

func (r replica) Append(term uint64, batch []byte, done func(error)) {
	r.p.AppendIn(term, batch, func(res partition.AppendResult) { done(res.Err) })
}

func (r replica) MaxBatch() int { return r.p.MaxBatch() }

func (r replica) Verify(term uint64) error { return r.p.VerifyTerm(term) }
