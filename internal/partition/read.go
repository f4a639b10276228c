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

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Wait returns a channel that is closed once the high watermark has passed
// offset or the leadership changed; it may be closed earlier.
func (p *Partition) Wait(offset int64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offsets.HighWatermark > offset || !p.leading {
		return closedChan
	}
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
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
