package partition

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/hashicorp/raft"
)

// AppendResult answers an Append.
type AppendResult struct {
	BaseOffset int64 // of the batch's first record; -1 with an error
	LogStart   int64
	AppendTime int64 // ms, with LogAppendTime; else -1
	Err        error
}

// pending is a batch that waits for its place in an entry, and then for its commit.
type pending struct {
	batch []byte
	term  uint64 // in which it counts; 0 is any
	done  func(AppendResult)
	// appendTime is the batch's, once it is in an entry; 0 with CreateTime.
	appendTime int64
}

const (
	maxEntryBytes = 1 << 20
	maxInFlight   = 4 // entries
	// maxQueued bounds what waits for a slow commit, in bytes; clients are
	// asked to retry beyond it.
	maxQueued = 64 << 20
)

// Append stores one record batch. It never blocks; done is called exactly
// once, on any goroutine: after the batch is committed and applied here, or
// when it is known to be refused. With ErrNotLeader the batch may or may not
// have been stored. The batch belongs to the partition from now on.
func (p *Partition) Append(batch []byte, done func(AppendResult)) {
	p.append(0, batch, done)
}

// AppendIn is Append for a batch that counts only if it is committed in the
// given term: what was decided by the state of one term of leadership can't get
// into the log of a later one.
func (p *Partition) AppendIn(term uint64, batch []byte, done func(AppendResult)) {
	p.append(term, batch, done)
}

func (p *Partition) append(term uint64, batch []byte, done func(AppendResult)) {
	if err := p.enqueue(term, batch, done); err != nil {
		done(AppendResult{BaseOffset: -1, LogStart: -1, AppendTime: -1, Err: err})
	}
}

func (p *Partition) enqueue(term uint64, batch []byte, done func(AppendResult)) error {
	s := p.currentSettings()
	b, err := check(batch, s.MaxMessageBytes)
	if err == nil {
		err = s.checkTimes(b, p.cfg.Now)
	}
	if err == nil && s.CleanupCompact {
		err = p.checkKeys(b)
	}
	if err != nil {
		return err
	}
	p.queueMu.Lock()
	defer p.queueMu.Unlock()
	if !p.accepting {
		return ErrNotTaken
	}
	if p.queued > maxQueued {
		return ErrBusy
	}
	p.queue = append(p.queue, pending{batch: b, term: term, done: done})
	p.queued += len(b)
	if len(p.queue) == 1 {
		p.poke()
	}
	return nil
}

// ErrBusy: more is waiting to be committed than the leader keeps in memory.
var ErrBusy = errors.New("too much is waiting to be committed, try again")

// flight is an entry on its way through raft.
type flight struct {
	future raft.ApplyFuture
	items  []pending
	began  time.Time
}

// lead is one term of leadership. It returns when ctx ends or the term was lost.
func (p *Partition) lead(ctx context.Context, term uint64) {
	size := p.segmentBytes()
	for {
		err := p.group.Propose(nil, p.command(kindEpochStart, size)).Error()
		if err == nil {
			break
		}
		if ctx.Err() != nil || !p.stillLeads(term) {
			return
		}
		p.logger.Warn("the first entry of a new leader failed, trying again", "term", term, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	p.logger.Info("leads the partition", "term", term, "high_watermark", p.highWatermark())

	flights := make(chan flight, maxInFlight-1)
	completed := make(chan struct{})
	go func() {
		defer close(completed)
		for f := range flights {
			p.complete(f)
			p.landed()
		}
	}()
	keeper := p.startKeeper(ctx)
	p.propose(ctx, flights, size)
	close(flights)
	<-completed
	<-keeper
}

// accept opens the queue when raft leads here, before the term's first entry
// was applied even: a client that was told of the new leader need not come
// twice. It refuses what is left when raft does not.
func (p *Partition) accept(leading bool) {
	p.queueMu.Lock()
	p.accepting = leading
	var left []pending
	if !leading {
		left = p.queue
		p.queue, p.queued = nil, 0
	}
	p.queueMu.Unlock()
	refuse(left, ErrNotLeader)
}

// Takes says whether Append takes batches: raft leads here.
func (p *Partition) Takes() bool {
	p.queueMu.Lock()
	defer p.queueMu.Unlock()
	return p.accepting
}

func (p *Partition) stillLeads(term uint64) bool {
	s := p.group.Status()
	return s.Leading && s.Term == term
}

func (p *Partition) highWatermark() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets.HighWatermark
}

// propose turns what is queued into entries until ctx ends. size is that of new
// segments, by the last entry that said so.
func (p *Partition) propose(ctx context.Context, flights chan<- flight, size int64) {
	for {
		for ctx.Err() == nil {
			items := p.take(size)
			if len(items) == 0 {
				break
			}
			if now := p.segmentBytes(); now != size {
				size = now
				p.group.Propose(nil, p.command(kindSegmentBytes, size)) // if it is lost the keeper sees to it
			}
			p.stamp(items)
			head := p.command(kindBatches)
			if term := items[0].term; term != 0 {
				head = p.command(kindTermBatches, int64(term))
			}
			began := time.Now()
			f := flight{p.group.Propose(gather(items), head), items, began}
			// Blocks while enough is in flight; what comes meanwhile shares the
			// next entry. The completer always ends: raft answers every future.
			flights <- f
		}
		select {
		case <-ctx.Done():
			return
		case <-p.ready:
		}
	}
}

// take removes the batches of one entry from the queue, while new segments are of
// a size; none while proposals are held back.
func (p *Partition) take(size int64) []pending {
	most := math.MaxInt
	if size < smallSegment {
		most = smallEntry
	}
	p.queueMu.Lock()
	defer p.queueMu.Unlock()
	if p.holds > 0 || len(p.queue) == 0 {
		return nil
	}
	p.flying++
	n, bytes := 0, 0
	for n < min(len(p.queue), most) && (n == 0 || bytes+len(p.queue[n].batch) <= maxEntryBytes && p.queue[n].term == p.queue[0].term) {
		bytes += len(p.queue[n].batch)
		n++
	}
	items := p.queue[:n:n]
	p.queue = p.queue[n:]
	p.queued -= bytes
	if len(p.queue) == 0 {
		p.queue = nil
	}
	return items
}

// gather makes the entry's data: a single batch as it is, several copied together.
func gather(items []pending) []byte {
	if len(items) == 1 {
		return items[0].batch
	}
	size := 0
	for _, it := range items {
		size += len(it.batch)
	}
	data := make([]byte, 0, size)
	for _, it := range items {
		data = append(data, it.batch...)
	}
	return data
}

// complete waits for an entry and answers its producers.
func (p *Partition) complete(f flight) {
	if err := f.future.Error(); err != nil {
		refuse(f.items, proposeError(err))
		return
	}
	out, ok := f.future.Response().(*outcome)
	switch {
	case !ok:
		refuse(f.items, ErrStorage)
	case out.err != nil:
		refuse(f.items, out.err)
	case len(out.batches) != len(f.items):
		refuse(f.items, ErrStorage)
	default:
		p.committed(f, out)
		for i, it := range f.items {
			b := out.batches[i]
			it.done(AppendResult{BaseOffset: b.base, LogStart: out.logStart, AppendTime: p.appendTime(it, b), Err: b.err})
		}
	}
}

func refuse(items []pending, err error) {
	for _, it := range items {
		it.done(AppendResult{BaseOffset: -1, LogStart: -1, AppendTime: -1, Err: err})
	}
}

// proposeError: whatever raft says, the client asks for the leader and tries again.
func proposeError(err error) error { return errors.Join(ErrNotLeader, err) }
