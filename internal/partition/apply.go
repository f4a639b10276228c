package partition

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/seglog"
)

// outcome is what became of the batches of one entry.
type outcome struct {
	batches  []batchOutcome
	logStart int64
	err      error // of the entry as a whole
}

type batchOutcome struct {
	base      int64
	duplicate bool // of a batch that was stored before, at base
	err       error
}

// ApplyBatch implements replication.StateMachine.
func (p *Partition) ApplyBatch(entries []*raft.Log) []any {
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	responses := make([]any, len(entries))
	for i, l := range entries {
		if l.Type != raft.LogCommand {
			continue
		}
		responses[i] = p.apply(l)
	}
	p.publish()
	return responses
}

// apply applies one entry. After an error the replica is broken: going on would
// leave a hole.
func (p *Partition) apply(l *raft.Log) *outcome {
	if p.broken != nil {
		return &outcome{err: p.broken}
	}
	out, err := p.applyCommand(l)
	if err != nil {
		p.fail(fmt.Errorf("apply entry %d of term %d: %w", l.Index, l.Term, err))
		return &outcome{err: p.broken}
	}
	return out
}

func (p *Partition) applyCommand(l *raft.Log) (*outcome, error) {
	c, err := decodeCommand(l.Extensions)
	if err != nil {
		return nil, err
	}
	if err := p.ensureLog(); err != nil {
		return nil, err
	}
	if p.state.refill != 0 && closedToRefill(c.kind) {
		return &outcome{err: ErrRefilling}, nil
	}
	switch c.kind {
	case kindRefillBegin, kindRefill, kindRefillEnd:
		return p.applyRefill(l, c)
	case kindBatches:
		return p.applyBatches(l, c)
	case kindTermBatches:
		if uint64(c.arg[0]) != l.Term {
			return &outcome{err: ErrOtherTerm}, nil
		}
		return p.applyBatches(l, c)
	case kindEpochStart:
		p.state.epoch = int32(l.Term)
		p.state.epochs = p.state.epochs.begin(int32(l.Term), p.log.State().Next)
		p.state.active.begin(p.log, c.time)
		return &outcome{}, p.setSegmentBytes(c.arg[0])
	case kindLogStart:
		start := min(c.arg[0], p.log.State().Next)
		p.log.SetStart(start)
		p.state.epochs = p.state.epochs.trim(start)
		p.freeSoon(p.log)
	case kindReached:
		if c.arg[0] > p.state.reached[0] || c.arg[0] == p.state.reached[0] && c.arg[1] > p.state.reached[1] {
			p.state.reached = c.arg
		}
	case kindExpire:
		p.state.producers.expire(c.arg[0])
	case kindSegmentBytes:
		return &outcome{}, p.setSegmentBytes(c.arg[0])
	case kindRoll:
		p.log.Roll(c.arg[0])
	case kindCompact:
		p.noteCompaction(c)
	}
	return &outcome{}, nil
}

// closedToRefill tells the entries that mean nothing while a partition is filled.
func closedToRefill(k kind) bool {
	return k == kindBatches || k == kindTermBatches || k == kindLogStart || k == kindCompact
}

func (p *Partition) setSegmentBytes(n int64) error {
	p.state.segmentBytes = n
	return p.log.SetSegmentBytes(n)
}

func (p *Partition) applyBatches(l *raft.Log, c command) (*outcome, error) {
	out := &outcome{batches: make([]batchOutcome, 0, 1)}
	for rest := l.Data; len(rest) > 0; {
		var b seglog.Batch
		var err error
		if b, rest, err = seglog.NextBatch(rest); err != nil {
			return nil, err
		}
		base, duplicate, err := p.applyOne(b, int32(l.Term), c.time)
		if err != nil && !isVerdict(err) {
			return nil, err
		}
		out.batches = append(out.batches, batchOutcome{base, duplicate, err})
	}
	out.logStart = p.log.Start()
	return out, nil
}

// isVerdict tells an answer to a producer from a failure of the replica.
func isVerdict(err error) bool {
	return errors.Is(err, ErrOutOfOrderSequence) || errors.Is(err, ErrDuplicateSequence) || errors.Is(err, ErrProducerEpoch)
}

func (p *Partition) applyOne(b seglog.Batch, epoch int32, time int64) (base int64, duplicate bool, err error) {
	id := b.ProducerID()
	first, last := b.BaseSequence(), int32(0)
	if id >= 0 {
		last = lastSequence(first, b.LastOffsetDelta())
		base, duplicate, err := p.state.producers.check(id, b.ProducerEpoch(), first, last)
		if err != nil {
			return -1, false, err
		}
		if duplicate {
			return base, true, nil
		}
	}
	base = p.next
	if err := p.log.Append(b, base, epoch); err != nil {
		return -1, false, err
	}
	p.next = base + int64(b.LastOffsetDelta()) + 1
	p.state.active.begin(p.log, time)
	if id >= 0 {
		p.state.producers.store(id, b.ProducerEpoch(), sequenced{first, last, base}, time)
	}
	return base, false, nil
}

// ensureLog opens the segments empty, when raft had no manifest to restore.
func (p *Partition) ensureLog() error {
	if p.log != nil {
		return nil
	}
	return p.openLog(seglog.State{})
}

func (p *Partition) openLog(st seglog.State) error {
	opts := p.cfg.Segments
	opts.Dir = p.logDir()
	opts.SegmentBytes, opts.OnDamage = p.state.segmentBytes, p.cfg.OnDamage
	log, err := seglog.Open(opts, st)
	if err != nil {
		p.damaged = damagedBy(err, st)
		return err
	}
	p.mu.Lock()
	p.log, p.next = log, st.Next
	p.mu.Unlock()
	return nil
}

// fail makes the replica broken, once.
func (p *Partition) fail(err error) {
	if p.broken != nil {
		return
	}
	p.broken = fmt.Errorf("%w: %w", ErrStorage, err)
	if errors.Is(err, seglog.ErrClosed) {
		return // the replica is being closed
	}
	p.logger.Error("the replica can't apply committed entries and stops here; its log is intact: mend the cause and restart the node", "err", err)
}

// Snapshot implements replication.StateMachine.
func (p *Partition) Snapshot() (raft.FSMSnapshot, error) {
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	if p.broken != nil {
		return nil, p.broken
	}
	if err := p.ensureLog(); err != nil {
		return nil, err
	}
	return &snapshot{log: p.log, sweep: p.sweepStaged, manifest: Manifest{
		Log:          p.log.State(),
		Epoch:        p.state.epoch,
		Epochs:       p.state.epochs,
		Producers:    p.state.producers.state(),
		ExpiredID:    p.state.producers.expired,
		Reached:      p.state.reached,
		SegmentBytes: p.state.segmentBytes,
		ActiveSince:  p.state.active.since,
		Compactions:  p.state.compactions.pending(p.log),
		CompactSeq:   p.state.compactions.seq,
		Refill:       p.state.refill,
	}.versioned()}, nil
}

// Restore implements replication.StateMachine: at start it cuts the segments to
// the manifest; on a running follower it adopts the staged ones.
func (p *Partition) Restore(r io.ReadCloser) error {
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxManifest))
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	m, err := DecodeManifest(b)
	if err != nil {
		return err
	}
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	if err := p.restore(m); err != nil {
		p.fail(fmt.Errorf("restore manifest at offset %d: %w", m.Log.Next, err))
		return p.broken
	}
	p.publish()
	return nil
}

func (p *Partition) restore(m Manifest) error {
	if p.log != nil {
		if err := p.log.Close(); err != nil {
			return err
		}
	}
	err := seglog.Adopt(p.cfg.Segments.FS, p.logDir(), p.stagedDir(), m.Log)
	if err != nil && !errors.Is(err, seglog.ErrNotStaged) {
		return err
	}
	p.mu.Lock()
	p.stagePin = nil // of a log that is closed; its segments were adopted
	p.mu.Unlock()
	p.state = state{
		epoch: m.Epoch, epochs: m.Epochs, reached: m.Reached, segmentBytes: m.SegmentBytes,
		producers:   restoreProducers(m.Producers, m.ExpiredID),
		compactions: compactions{seq: m.CompactSeq, list: m.Compactions},
		refill:      m.Refill,
	}
	if err := p.openLog(m.Log); err != nil {
		return err
	}
	p.state.active.begin(p.log, m.ActiveSince)
	p.tellCompactions()
	return nil
}
