package main

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"
)

// headerBytes of a message are its identity and when it was sent; the rest is noise that the
// identity chooses, so that it can't be compressed and every byte can be checked.
const headerBytes = 16

var noise = func() []byte {
	b := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}()

// identity is that of message number seq of a lane.
func identity(lane int, seq uint64) uint64 { return uint64(lane)<<40 | seq }

// began is what times in messages count from.
var began = time.Now()

// fill writes a message of len(b) bytes, at least headerBytes.
func fill(b []byte, id uint64, sent time.Time) {
	binary.BigEndian.PutUint64(b, id)
	binary.BigEndian.PutUint64(b[8:], uint64(sent.Sub(began)))
	for rest, from := b[headerBytes:], noiseFrom(id); len(rest) > 0; from = 0 {
		rest = rest[copy(rest, noise[from:]):]
	}
}

func noiseFrom(id uint64) int { return int(id * 61 % uint64(len(noise))) }

// parse returns identity and age of a message.
func parse(b []byte) (id uint64, sent time.Time, err error) {
	if len(b) < headerBytes {
		return 0, sent, fmt.Errorf("a message of %d bytes is none of ours", len(b))
	}
	return binary.BigEndian.Uint64(b), began.Add(time.Duration(binary.BigEndian.Uint64(b[8:]))), nil
}

// intact looks at every byte.
func intact(b []byte, id uint64) bool {
	for rest, from := b[headerBytes:], noiseFrom(id); len(rest) > 0; from = 0 {
		n := min(len(rest), len(noise)-from)
		if string(rest[:n]) != string(noise[from:from+n]) {
			return false
		}
		rest = rest[n:]
	}
	return true
}

// maxOffset bounds what a ledger takes: more than any run writes into a partition.
const maxOffset = 1 << 32

// A ledger holds which message was acknowledged at which offset of a partition, two bits a
// message: what was read is compared by offset, and by a checksum over 64 offsets.
type ledger struct {
	mu     sync.Mutex
	blocks []block
	acked  uint64
	twice  uint64 // acknowledged at an offset that another one has
}

type block struct {
	offsets uint64 // a bit each
	sum     uint64 // of all: which message is where
}

// stamp ties a message to its offset. The sum of stamps does not depend on their order.
func stamp(offset int64, id uint64) uint64 {
	x := (uint64(offset)*0x9e3779b97f4a7c15 ^ id) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>31) * 0x94d049bb133111eb
	return x ^ x>>29
}

// put records a message at an offset, and says whether the offset was free.
func put(blocks *[]block, offset int64, id uint64) bool {
	i, bit := int(offset>>6), uint64(1)<<(offset&63)
	for len(*blocks) <= i {
		*blocks = append(*blocks, block{})
	}
	b := &(*blocks)[i]
	if b.offsets&bit != 0 {
		return false
	}
	b.offsets |= bit
	b.sum += stamp(offset, id)
	return true
}

// ack records an acknowledgement.
func (l *ledger) ack(offset int64, id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked++
	if offset < 0 || offset >= maxOffset || !put(&l.blocks, offset, id) {
		l.twice++
	}
}

// has says whether an offset was acknowledged.
func (l *ledger) has(offset int64) bool {
	i := int(offset >> 6)
	return offset >= 0 && i < len(l.blocks) && l.blocks[i].offsets>>(offset&63)&1 != 0
}

// A verdict is how what was read compares with what was acknowledged.
type verdict struct {
	Acked   uint64 `json:"acked"`
	Read    uint64 `json:"read"`
	Missing uint64 `json:"missing,omitempty"` // acknowledged, and not to be read
	Twice   uint64 `json:"twice,omitempty"`   // acknowledged at an offset that another one had
	Changed uint64 `json:"changed,omitempty"` // blocks of 64 in which another message is where one was acknowledged
	Damaged uint64 `json:"damaged,omitempty"` // messages with wrong bytes
}

func (v *verdict) plus(o verdict) {
	v.Acked += o.Acked
	v.Read += o.Read
	v.Missing += o.Missing
	v.Twice += o.Twice
	v.Changed += o.Changed
	v.Damaged += o.Damaged
}

func (v verdict) err() error {
	if v.Missing+v.Twice+v.Changed+v.Damaged == 0 {
		return nil
	}
	return fmt.Errorf("of %d acknowledged messages %d can't be read; %d were acknowledged at an offset that was taken, %d blocks hold other messages, %d messages are damaged",
		v.Acked, v.Missing, v.Twice, v.Changed, v.Damaged)
}

// A reading is what was read of one partition. Not for several goroutines.
type reading struct {
	of      *ledger
	blocks  []block
	read    uint64
	damaged uint64
}

// add takes a message that was read. The value is not kept.
func (r *reading) add(offset int64, value []byte) {
	r.read++
	id, _, err := parse(value)
	if err != nil || !intact(value, id) {
		r.damaged++
	}
	if r.of.has(offset) { // what was sent but never acknowledged may be there too
		put(&r.blocks, offset, id)
	}
}

// compare says what is wrong from offset start on: what is below, retention has removed.
func (r *reading) compare(start int64) verdict {
	v := verdict{Acked: r.of.acked, Read: r.read, Twice: r.of.twice, Damaged: r.damaged}
	for i, want := range r.of.blocks {
		var got block
		if i < len(r.blocks) {
			got = r.blocks[i]
		}
		kept := ^uint64(0)
		if first := start - int64(i)<<6; first >= 64 {
			continue
		} else if first > 0 {
			kept <<= first
		}
		missing := want.offsets & kept &^ got.offsets
		v.Missing += uint64(bits.OnesCount64(missing))
		if got.offsets == want.offsets && got.sum != want.sum {
			v.Changed++
		}
	}
	return v
}
