package partition

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/seglog"
)

// Errors of a refill.
var (
	// ErrRefilling: the partition is being filled from a backup and takes nothing else.
	ErrRefilling = errors.New("the partition is being restored from a backup")
	// ErrNotEmpty: offsets were given out already; only an empty partition is filled.
	ErrNotEmpty = errors.New("the partition is not empty")
	// ErrNoRefill: the partition is not being filled, or from something else.
	ErrNoRefill = errors.New("the partition is not being restored from this backup")
	// ErrRefillData: the batches do not fit behind what was filled in.
	ErrRefillData = errors.New("the batches do not fit")
)

// Refill is how far a partition is filled from a backup.
type Refill struct {
	// Token says from what; 0 is none, the partition is as any other.
	Token int64 `json:"token"`
	Start int64 `json:"start"` // log start
	Next  int64 `json:"next"`  // offset behind the last batch
}

// Refill tells of it. The error is ErrNotLeader.
func (p *Partition) Refill() (r Refill, err error) {
	o, leading := p.Offsets()
	if !leading {
		return r, ErrNotLeader
	}
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	return Refill{p.state.refill, o.Start, p.next}, nil
}

// BeginRefill makes an empty partition begin at offset and take batches with their
// offsets, from Fill alone, until EndRefill. token, above 0, says what it is filled
// from; to begin again with the same one changes nothing. Errors: ErrNotLeader,
// ErrNotEmpty, ErrRefilling (with another token), ErrStorage.
func (p *Partition) BeginRefill(token, offset int64) error {
	if token <= 0 || offset < 0 {
		return fmt.Errorf("%w: token %d, offset %d", ErrRefillData, token, offset)
	}
	return p.proposeRefill(nil, kindRefillBegin, token, offset)
}

// Fill stores batches as they are, but for the leader epoch, at the offsets that
// they carry. Those below the next offset are there already and are left out. It
// returns when they are committed and applied here. data is the partition's from
// now on. Errors: ErrNotLeader, ErrNoRefill, ErrRefillData, ErrInvalidRecord,
// ErrStorage, and those of seglog.Batch.ValidateStored.
func (p *Partition) Fill(token int64, data []byte) error {
	if len(data) == 0 {
		return fmt.Errorf("%w: there are none", ErrRefillData)
	}
	next := int64(0)
	for rest := data; len(rest) > 0; {
		var b seglog.Batch
		var err error
		if b, rest, err = seglog.NextBatch(rest); err != nil {
			return err
		}
		if err := b.ValidateStored(); err != nil {
			return err
		}
		if b.Transactional() || b.Control() {
			return fmt.Errorf("%w: transactions are not supported", ErrInvalidRecord)
		}
		if b.BaseOffset() < next || b.LastOffset() < b.BaseOffset() {
			return fmt.Errorf("%w: a batch from %d to %d behind offset %d", ErrRefillData, b.BaseOffset(), b.LastOffset(), next)
		}
		next = b.LastOffset() + 1
	}
	return p.proposeRefill(data, kindRefill, token)
}

// EndRefill opens the partition: its log starts at start and goes on at next, and
// it takes records as any other. Errors: ErrNotLeader, ErrNoRefill, ErrRefillData,
// ErrStorage.
func (p *Partition) EndRefill(token, start, next int64) error {
	r, err := p.Refill()
	if err != nil {
		return err
	}
	if r.Token != token {
		return ErrNoRefill
	}
	return p.proposeRefill(nil, kindRefillEnd, start, next)
}

func (p *Partition) proposeRefill(data []byte, k kind, arg ...int64) error {
	if _, leading := p.Offsets(); !leading {
		return ErrNotLeader
	}
	f := p.group.Propose(data, p.command(k, arg...))
	if err := f.Error(); err != nil {
		return proposeError(err)
	}
	out, ok := f.Response().(*outcome)
	if !ok {
		return ErrStorage
	}
	return out.err
}

// applyRefill applies an entry of a refill.
func (p *Partition) applyRefill(l *raft.Log, c command) (*outcome, error) {
	switch c.kind {
	case kindRefillBegin:
		return p.applyRefillBegin(c)
	case kindRefill:
		return p.applyFill(l, c)
	}
	start, next := c.arg[0], c.arg[1]
	switch {
	case p.state.refill == 0:
		return &outcome{err: ErrNoRefill}, nil
	case next < p.next || start < p.log.Start() || start > next:
		return &outcome{err: fmt.Errorf("%w: end with offsets from %d to %d, where there are %d to %d",
			ErrRefillData, start, next, p.log.Start(), p.next)}, nil
	}
	p.state.refill = 0
	p.log.Skip(next)
	p.next = next
	p.log.SetStart(start)
	p.state.epochs = p.state.epochs.trim(start)
	p.freeSoon(p.log)
	return &outcome{}, nil
}

func (p *Partition) applyRefillBegin(c command) (*outcome, error) {
	token, offset := c.arg[0], c.arg[1]
	switch {
	case p.state.refill == token:
		return &outcome{}, nil
	case p.state.refill != 0:
		return &outcome{err: fmt.Errorf("%w, another one", ErrRefilling)}, nil
	case p.next != 0 || p.log.Start() != 0:
		return &outcome{err: fmt.Errorf("%w: its offsets go from %d to %d", ErrNotEmpty, p.log.Start(), p.next)}, nil
	}
	if err := p.log.Begin(offset); err != nil {
		return nil, err
	}
	p.state.refill, p.next = token, offset
	return &outcome{}, nil
}

// applyFill stores batches at their own offsets. Of their producers nothing is
// remembered: ids of another cluster say nothing in this one.
func (p *Partition) applyFill(l *raft.Log, c command) (*outcome, error) {
	if p.state.refill == 0 || p.state.refill != c.arg[0] {
		return &outcome{err: ErrNoRefill}, nil
	}
	for rest := l.Data; len(rest) > 0; {
		var b seglog.Batch
		var err error
		if b, rest, err = seglog.NextBatch(rest); err != nil {
			return nil, err
		}
		base := b.BaseOffset()
		switch {
		case b.LastOffset() < p.next:
			continue // sent twice
		case base < p.next:
			return &outcome{err: fmt.Errorf("%w: a batch from %d to %d, where the next offset is %d", ErrRefillData, base, b.LastOffset(), p.next)}, nil
		}
		if err := p.log.Append(b, base, int32(l.Term)); err != nil {
			return nil, err
		}
		p.next = b.LastOffset() + 1
		p.state.active.begin(p.log, c.time)
	}
	return &outcome{}, nil
}
