package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

const (
	// producerBlock is how many producer ids are taken from etcd at once.
	producerBlock = 10_000
	// producerChunk is how many of them are struck off the reserve on disk at once;
	// that many at most are lost when the node stops.
	producerChunk = 100
	refillTimeout = 5 * time.Second
	// producerFile holds the reserve, so that a node which starts while etcd is
	// away can give new producers an id.
	producerFile    = "producer-ids.json"
	maxProducerFile = 1 << 16
)

// producerIDs hands out producer ids from blocks that etcd gave to this node.
// More than a block is kept in reserve, on disk too, so that new producers get
// an id while etcd is away. An id is given out only after the reserve on disk
// was written without it: not even a crash gives one out twice.
type producerIDs struct {
	fs    vfs.FS
	dir   string
	id    identity.Identity // whose reserve it is
	alloc func(ctx context.Context, n int64) (first int64, err error)
	log   *slog.Logger

	mu      sync.Mutex
	ready   idBlock   // no longer in the reserve on disk
	reserve []idBlock // as on disk, or more
	filling bool
	floor   int64 // nothing below it is given out
	wg      sync.WaitGroup
}

// idBlock is the ids from Next on, below End.
type idBlock struct {
	Next int64 `json:"next"`
	End  int64 `json:"end"`
}

func (b idBlock) left() int64 { return b.End - b.Next }

// above is what a block has from floor on.
func (b idBlock) above(floor int64) idBlock { return idBlock{min(max(b.Next, floor), b.End), b.End} }

// producerReserve is producerFile.
type producerReserve struct {
	identity.Identity
	Blocks []idBlock `json:"blocks"`
}

// readProducerReserve reads the reserve of a data directory; none is no error.
func readProducerReserve(fsys vfs.FS, dir string) (r producerReserve, err error) {
	name := vfs.Join(dir, producerFile)
	buf, err := vfs.ReadFile(fsys, name, maxProducerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(buf, &r); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	for _, b := range r.Blocks {
		if b.Next < 1 || b.End < b.Next {
			return r, fmt.Errorf("%s: a block from %d to %d", name, b.Next, b.End)
		}
	}
	return r, nil
}

// load takes up the reserve of the node's former life. One that can't be read is
// given up: its ids are lost, and none is given out twice.
func (p *producerIDs) load() {
	r, err := readProducerReserve(p.fs, p.dir)
	switch {
	case err != nil:
		p.log.Warn("the reserve of producer ids can't be read and is given up; etcd hands out new ones", "err", err)
	case r.Identity == p.id:
		p.reserve = r.Blocks
	case len(r.Blocks) > 0:
		p.log.Warn("the reserve of producer ids belongs to another node and is given up; etcd hands out new ones", "belongs_to", r.Identity.String())
	}
}

// saveLocked writes the reserve.
func (p *producerIDs) saveLocked() error {
	buf, err := json.Marshal(producerReserve{p.id, p.reserve})
	if err != nil {
		return err
	}
	return vfs.WriteFileAtomic(p.fs, vfs.Join(p.dir, producerFile), append(buf, '\n'))
}

// take returns an id that was never given out before.
func (p *producerIDs) take(ctx context.Context) (int64, error) {
	id, ok, err := p.local()
	if err != nil {
		return 0, err
	}
	if !ok {
		first, err := p.alloc(ctx, producerBlock)
		if err != nil {
			return 0, err
		}
		p.mu.Lock()
		p.reserve = append(p.reserve, idBlock{first, first + producerBlock})
		p.mu.Unlock()
		if id, ok, err = p.local(); err != nil || !ok { // others were quicker with all of it
			return 0, errors.Join(errors.New("the producer ids ran out"), err)
		}
	}
	p.refill(ctx)
	return id, nil
}

// local takes an id that this node has; ok is false when it has none.
func (p *producerIDs) local() (id int64, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready.left() == 0 {
		if p.ready, ok = p.strikeLocked(); !ok {
			return 0, false, nil
		}
		if err := p.saveLocked(); err != nil {
			p.ready = idBlock{} // nobody knows whether they are still on disk
			return 0, false, fmt.Errorf("write down which producer ids are used: %w", err)
		}
	}
	p.ready.Next++
	return p.ready.Next - 1, true, nil
}

// strikeLocked moves some ids out of the reserve.
func (p *producerIDs) strikeLocked() (b idBlock, ok bool) {
	for len(p.reserve) > 0 {
		first := &p.reserve[0]
		*first = first.above(p.floor) // it may have come while the floor was raised
		if first.left() == 0 {
			p.reserve = p.reserve[1:]
			continue
		}
		b = idBlock{first.Next, min(first.Next+producerChunk, first.End)}
		first.Next = b.End
		return b, true
	}
	return b, false
}

// maxProducerFloor is far more than there will ever be, and leaves as many above it.
const maxProducerFloor = 1 << 62

// skip gives up the ids below floor that this node has.
func (p *producerIDs) skip(floor int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.floor = max(p.floor, floor)
	p.ready = p.ready.above(p.floor)
	for i, b := range p.reserve {
		p.reserve[i] = b.above(p.floor)
	}
	if err := p.saveLocked(); err != nil {
		return fmt.Errorf("write down which producer ids are given up: %w", err)
	}
	return nil
}

// refill takes another block when less than one is in reserve, beside the caller.
func (p *producerIDs) refill(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left int64
	for _, b := range p.reserve {
		left += b.left()
	}
	if p.filling || left >= producerBlock {
		return
	}
	p.filling = true
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refillTimeout)
		defer cancel()
		first, err := p.alloc(ctx, producerBlock)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.filling = false
		if err != nil {
			p.log.Debug("no producer ids in reserve, trying again with the next one", "err", err)
			return
		}
		p.reserve = append(p.reserve, idBlock{first, first + producerBlock})
		if err := p.saveLocked(); err != nil {
			p.log.Warn("the reserve of producer ids can't be written: new producers could not start after a restart without etcd", "err", err)
		}
	})
}

// end is above every id that this node holds or has given out since its start.
func (p *producerIDs) end() (end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range append(p.reserve, p.ready) {
		end = max(end, b.End)
	}
	return end
}

// close waits for a refill under way.
func (p *producerIDs) close() { p.wg.Wait() }
