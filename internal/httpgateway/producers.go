package httpgateway

import (
	"context"
	"math"
	"sync"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
)

// maxSequences is how many partitions one of the producers may write to.
const maxSequences = 10_000

// producers are the node's own producer ids. Whoever borrows one is alone with it,
// so its batches reach each partition in the order of their numbers, and may be sent
// again.
type producers struct {
	init func(context.Context) (*v1.Producer, error)

	mu   sync.Mutex
	free []*producer // the last one is borrowed first, so that few are used
}

// producer is a producer id and its next sequence number in each partition.
type producer struct {
	id    int64
	epoch int32
	next  map[place]int32
	spent bool // it is not known what became of a batch: it can't be used any more
}

// place is a partition of one life of a topic.
type place struct {
	topic [16]byte
	index int32
}

func newProducers(init func(context.Context) (*v1.Producer, error)) *producers {
	return &producers{init: init}
}

func (ps *producers) borrow(ctx context.Context) (*producer, error) {
	ps.mu.Lock()
	if n := len(ps.free); n > 0 {
		p := ps.free[n-1]
		ps.free = ps.free[:n-1]
		ps.mu.Unlock()
		return p, nil
	}
	ps.mu.Unlock()
	id, err := ps.init(ctx)
	if err != nil {
		return nil, err
	}
	return &producer{id: id.Id, epoch: id.Epoch, next: make(map[place]int32)}, nil
}

// giveBack takes a producer that its borrower is done with.
func (ps *producers) giveBack(p *producer) {
	if p == nil || p.spent || len(p.next) > maxSequences {
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.free = append(ps.free, p)
}

// stamp is what a batch of count records is sent with.
func (p *producer) stamp(at place, count int) *v1.Producer {
	first := p.next[at]
	p.next[at] = int32((int64(first) + int64(count)) % (math.MaxInt32 + 1))
	return &v1.Producer{Id: p.id, Epoch: p.epoch, Sequence: first}
}
