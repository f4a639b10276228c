package partition

import (
	"errors"

	"github.com/raftsman/raftsman/internal/seglog"
)

// Read returns whole batches from the one that holds offset on, all below the
// high watermark: up to maxBytes, and at least one batch if minOne. An offset
// at the high watermark yields no data. Release the data when it was sent.
func (p *Partition) Read(offset int64, maxBytes int, minOne bool) (seglog.Data, Offsets, error) {
	p.mu.Lock()
	log, o, leading := p.log, p.offsets, p.leading
	p.mu.Unlock()
	if !leading {
		return seglog.Data{}, o, ErrNotLeader
	}
	if offset < o.Start || offset > o.HighWatermark {
		return seglog.Data{}, o, ErrOutOfRange
	}
	if offset == o.HighWatermark {
		return seglog.Data{}, o, nil
	}
	data, err := log.Read(offset, maxBytes, minOne, o.HighWatermark)
	if errors.Is(err, seglog.ErrOutOfRange) {
		err = ErrOutOfRange // the log start rose meanwhile
	}
	return data, o, err
}

// Offsets returns the partition's offsets; leading says whether they are the
// leader's, and so may be shown to clients.
func (p *Partition) Offsets() (o Offsets, leading bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets, p.leading
}

// Closed says that Close was called: the replica will not serve any more.
func (p *Partition) Closed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// ReadFollower is Read on a replica that follows a leader. What is above the high
// watermark known here may exist: ErrNotAvailable. While somebody waits for it,
// the leader is asked to tell soon what is committed.
func (p *Partition) ReadFollower(offset int64, maxBytes int, minOne bool) (seglog.Data, Offsets, error) {
	p.mu.Lock()
	log, o, follows := p.log, p.offsets, !p.closed && p.log != nil && !p.status.Leading && p.status.Leader != 0
	p.mu.Unlock()
	switch {
	case !follows:
		return seglog.Data{}, o, ErrNotLeader
	case offset < o.Start:
		return seglog.Data{}, o, ErrOutOfRange
	case offset >= o.HighWatermark:
		p.group.FollowCommits()
		if offset > o.HighWatermark {
			return seglog.Data{}, o, ErrNotAvailable
		}
		return seglog.Data{}, o, nil
	}
	data, err := log.Read(offset, maxBytes, minOne, o.HighWatermark)
	if errors.Is(err, seglog.ErrOutOfRange) {
		err = ErrOutOfRange
	}
	return data, o, err
}

// Watcher is told that something has changed. Ring is called with locks held: it
// neither blocks nor calls back.
type Watcher interface{ Ring() }

// Watch has w rung, once, when the offsets or the leadership are others than were
// seen, at once if they are already, or when the replica closes.
func (p *Partition) Watch(w Watcher, seen Offsets, leading bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.offsets != seen || p.leading != leading {
		w.Ring()
		return
	}
	if p.watchers == nil {
		p.watchers = make(map[Watcher]struct{})
	}
	p.watchers[w] = struct{}{}
}

// Unwatch ends a Watch.
func (p *Partition) Unwatch(w Watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, w)
}

// OffsetForTimestamp returns the first record whose timestamp is at least ts
// (ms), and its leader epoch; ok is false if there is none.
func (p *Partition) OffsetForTimestamp(ts int64) (offset, timestamp int64, epoch int32, ok bool, err error) {
	log, hw, history, err := p.reading()
	if err != nil {
		return 0, 0, 0, false, err
	}
	offset, timestamp, ok, err = log.OffsetForTimestamp(ts)
	if err != nil || !ok || offset >= hw {
		return 0, 0, 0, false, err
	}
	return offset, timestamp, history.at(offset), true, nil
}

// MaxTimestamp returns the record with the greatest timestamp (ms).
func (p *Partition) MaxTimestamp() (offset, timestamp int64, epoch int32, ok bool, err error) {
	log, hw, history, err := p.reading()
	if err != nil {
		return 0, 0, 0, false, err
	}
	offset, timestamp, ok, err = log.MaxTimestamp()
	if err != nil || !ok || offset >= hw {
		return 0, 0, 0, false, err
	}
	return offset, timestamp, history.at(offset), true, nil
}

func (p *Partition) reading() (*seglog.Log, int64, epochs, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leading {
		return nil, 0, nil, ErrNotLeader
	}
	return p.log, p.offsets.HighWatermark, p.history, nil
}

// EpochAt is the leader epoch of an offset; -1 if it is not known.
func (p *Partition) EpochAt(offset int64) int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.history.at(offset)
}

// EpochEnd answers OffsetForLeaderEpoch; see epochs.end.
func (p *Partition) EpochEnd(epoch int32) (found int32, end int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leading {
		return -1, -1, ErrNotLeader
	}
	found, end = p.history.end(epoch, p.offsets.Epoch, p.offsets.HighWatermark)
	return found, end, nil
}
