package raftnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
)

// Class of a connection.
type Class byte

// Classes of connections, see the package documentation.
const (
	Control Class = iota
	Data
	Bulk
)

var classNames = [...]string{"control", "data", "bulk"}

func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class %d", byte(c))
}

// Kinds of frames. Those from FirstUserKind on belong to Net.Handle.
const (
	kindAppendEntries byte = 1 + iota
	kindRequestVote
	kindRequestPreVote
	kindTimeoutNow
	kindInstallSnapshot
	kindPing
	kindBeats

	// FirstUserKind is the lowest kind for Handle, Call and Send.
	FirstUserKind byte = 64
)

const (
	flagReply   byte = 1
	flagError   byte = 2
	flagOneWay  byte = 4
	headerLen        = 40
	copyLimit        = 1024               // data up to this size is copied rather than referenced
	keepScratch      = 64 << 10           // larger scratch buffers are not kept for reuse
	MaxPayload       = 64<<20 - headerLen // MaxPayload is the most that one frame may carry.
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type header struct {
	length      uint32
	kind, flags byte
	id          uint64
	dst, src    uint64
	crc         uint32 // of the payload
}

func (h *header) put(b []byte) {
	_ = b[headerLen-1]
	binary.BigEndian.PutUint32(b[0:], h.length)
	b[4], b[5], b[6], b[7] = h.kind, h.flags, 0, 0
	binary.BigEndian.PutUint64(b[8:], h.id)
	binary.BigEndian.PutUint64(b[16:], h.dst)
	binary.BigEndian.PutUint64(b[24:], h.src)
	binary.BigEndian.PutUint32(b[32:], h.crc)
	binary.BigEndian.PutUint32(b[36:], crc32.Checksum(b[:36], castagnoli))
}

var (
	errHeaderCRC  = errors.New("frame header has a wrong checksum")
	errPayloadCRC = errors.New("frame payload has a wrong checksum")
)

// parseHeader reads a header of headerLen bytes and bounds its length.
func parseHeader(b []byte) (h header, err error) {
	if len(b) < headerLen {
		return h, errors.New("frame header is short")
	}
	if crc32.Checksum(b[:36], castagnoli) != binary.BigEndian.Uint32(b[36:]) {
		return h, errHeaderCRC
	}
	h = header{
		length: binary.BigEndian.Uint32(b[0:]), kind: b[4], flags: b[5],
		id: binary.BigEndian.Uint64(b[8:]), dst: binary.BigEndian.Uint64(b[16:]), src: binary.BigEndian.Uint64(b[24:]),
		crc: binary.BigEndian.Uint32(b[32:]),
	}
	if h.length > MaxPayload {
		return h, fmt.Errorf("frame of %d bytes is above the limit of %d", h.length, MaxPayload)
	}
	return h, nil
}

// frame is one outgoing frame: scratch bytes that it owns (header, metadata,
// small data) and references to larger data of others, in order.
type frame struct {
	scratch []byte
	from    int      // where the open piece of scratch begins
	pieces  [][]byte // in order, all closed pieces
	size    int      // bytes, all together
}

var frames = sync.Pool{New: func() any { return new(frame) }}

// newFrame begins a frame. scratch is the exact number of payload bytes that
// will be appended or copied (not referenced): scratch never moves.
func newFrame(scratch int) *frame {
	f := frames.Get().(*frame)
	if cap(f.scratch) < headerLen+scratch {
		f.scratch = make([]byte, 0, max(headerLen+scratch, 256))
	}
	f.scratch = f.scratch[:headerLen]
	f.from, f.size = 0, 0
	return f
}

func (f *frame) u8(v byte)    { f.scratch = append(f.scratch, v) }
func (f *frame) u32(v uint32) { f.scratch = binary.BigEndian.AppendUint32(f.scratch, v) }
func (f *frame) u64(v uint64) { f.scratch = binary.BigEndian.AppendUint64(f.scratch, v) }

func (f *frame) flag(v bool) {
	if v {
		f.u8(1)
	} else {
		f.u8(0)
	}
}

// scratchFor is how many scratch bytes data takes.
func scratchFor(data []byte) int {
	if len(data) <= copyLimit {
		return len(data)
	}
	return 0
}

// data appends bytes, by reference if they are many.
func (f *frame) data(b []byte) {
	if len(b) <= copyLimit {
		f.scratch = append(f.scratch, b...)
		return
	}
	if len(f.scratch) > f.from {
		f.pieces = append(f.pieces, f.scratch[f.from:])
		f.from = len(f.scratch)
	}
	f.pieces = append(f.pieces, b)
}

// finish closes the frame and writes its header; it fails if the payload is too large.
func (f *frame) finish(kind, flags byte, id, dst, src uint64) error {
	if len(f.scratch) > f.from {
		f.pieces = append(f.pieces, f.scratch[f.from:])
	}
	crc := crc32.Update(0, castagnoli, f.pieces[0][headerLen:])
	f.size = len(f.pieces[0])
	for _, p := range f.pieces[1:] {
		crc = crc32.Update(crc, castagnoli, p)
		f.size += len(p)
	}
	if f.size-headerLen > MaxPayload {
		return fmt.Errorf("frame of %d bytes is above the limit of %d", f.size-headerLen, MaxPayload)
	}
	h := header{length: uint32(f.size - headerLen), kind: kind, flags: flags, id: id, dst: dst, src: src, crc: crc}
	h.put(f.scratch)
	return nil
}

// release gives the frame back once its bytes were written, or never will be.
func (f *frame) release() {
	clear(f.pieces)
	f.pieces = f.pieces[:0]
	if cap(f.scratch) > keepScratch {
		f.scratch = nil
	}
	frames.Put(f)
}

// simpleFrame is a frame with one piece of payload.
func simpleFrame(kind, flags byte, id, dst, src uint64, payload []byte) (*frame, error) {
	f := newFrame(scratchFor(payload))
	f.data(payload)
	if err := f.finish(kind, flags, id, dst, src); err != nil {
		f.release()
		return nil, err
	}
	return f, nil
}

// errorFrame is an error reply to a request.
func errorFrame(req header, code byte, text string) *frame {
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	f := newFrame(1 + len(text))
	f.u8(code)
	f.scratch = append(f.scratch, text...)
	if err := f.finish(req.kind, flagReply|flagError, req.id, req.src, req.dst); err != nil {
		panic("BUG: error reply too large")
	}
	return f
}
