package wal

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/identity"
)

const (
	fileMagic   = "RMANWAL1"
	fileVersion = 2
	// boundsVersion is the first whose logs have a bounds file.
	boundsVersion = 2
	linkMagic     = 0x4b4c4d52
	batchMagic    = 0x54424d52

	pageSize     = 4096
	linkOffset   = pageSize
	dataOffset   = 2 * pageSize
	birthFixed   = 36
	linkSize     = 40
	batchHead    = 40
	frameHead    = 56
	maxIdentity  = pageSize - birthFixed
	maxFile      = 1 << 31 // offsets are kept in 32 bits
	minFile      = dataOffset + 2*pageSize
	maxKey       = 32 << 10
	maxValue     = 1 << 20
	maxCandidate = 32 << 10
)

// Kind says what a frame does.
type Kind uint8

// The kinds of frames; DESIGN.md says what their fields mean.
const (
	KindEntry    Kind = 1
	KindTruncate Kind = 2
	KindRelease  Kind = 3
	KindStable   Kind = 4
	KindVote     Kind = 5
	KindDrop     Kind = 6
	KindRewrite  Kind = 7 // of earlier versions: the group's entries are those that follow
	KindMoved    Kind = 8 // an entry again, in another place
)

func (k Kind) String() string {
	names := [...]string{"", "entry", "truncate", "release", "stable", "vote", "drop", "rewrite", "moved"}
	if int(k) < len(names) && k > 0 {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// life is one use of a file between its birth and its recycling. It goes into
// every checksum.
type life struct{ seq, salt uint64 }

// summer computes checksums that are bound to a life and an offset. It exists
// for its scratch space: bytes handed to crc32 escape.
type summer struct{ buf [24 + frameHead]byte }

// sum is the checksum of head, whose first n bytes it leaves out, at an offset
// of a life.
func (s *summer) sum(l life, off int64, head []byte) uint32 {
	le.PutUint64(s.buf[0:], l.salt)
	le.PutUint64(s.buf[8:], l.seq)
	le.PutUint64(s.buf[16:], uint64(off))
	n := copy(s.buf[24:], head)
	return crc32.Checksum(s.buf[:24+n], castagnoli)
}

// encodeBirth makes the first two pages of a file: a birth and no link.
func encodeBirth(l life, id identity.Identity) ([]byte, error) {
	who, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	if len(who) > maxIdentity {
		return nil, fmt.Errorf("identity of %d bytes is too long", len(who))
	}
	b := make([]byte, dataOffset)
	copy(b, fileMagic)
	le.PutUint32(b[12:], fileVersion)
	le.PutUint64(b[16:], l.seq)
	le.PutUint64(b[24:], l.salt)
	le.PutUint32(b[32:], uint32(len(who)))
	copy(b[birthFixed:], who)
	le.PutUint32(b[8:], crc32.Checksum(b[12:birthFixed+len(who)], castagnoli))
	return b, nil
}

// decodeBirth reads the first page of a file.
func decodeBirth(b []byte) (l life, id identity.Identity, reason string) {
	if len(b) < birthFixed || string(b[:8]) != fileMagic {
		return l, id, "not a write-ahead log file"
	}
	n := le.Uint32(b[32:])
	if n > maxIdentity || int(n) > len(b)-birthFixed {
		return l, id, "length in the file header is impossible"
	}
	if crc32.Checksum(b[12:birthFixed+n], castagnoli) != le.Uint32(b[8:]) {
		return l, id, "checksum of the file header is wrong"
	}
	if v := le.Uint32(b[12:]); v == 0 || v > fileVersion {
		return l, id, fmt.Sprintf("format version %d is not supported", v)
	}
	if err := json.Unmarshal(b[birthFixed:birthFixed+n], &id); err != nil {
		return l, id, "identity in the file header: " + err.Error()
	}
	return life{seq: le.Uint64(b[16:]), salt: le.Uint64(b[24:])}, id, ""
}

// link names where the predecessor of a file ends.
type link struct {
	seq uint64 // 0: there is none, the log begins here
	end int64
}

func encodeLink(l life, prev link) []byte {
	b := make([]byte, linkSize)
	le.PutUint32(b[4:], linkMagic)
	le.PutUint64(b[8:], l.seq)
	le.PutUint64(b[16:], l.salt)
	le.PutUint64(b[24:], prev.seq)
	le.PutUint64(b[32:], uint64(prev.end))
	le.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// decodeLink returns false when there is no link of this life.
func decodeLink(l life, b []byte) (prev link, ok bool) {
	if len(b) < linkSize || le.Uint32(b[4:]) != linkMagic || le.Uint64(b[8:]) != l.seq || le.Uint64(b[16:]) != l.salt {
		return prev, false
	}
	if crc32.Checksum(b[4:linkSize], castagnoli) != le.Uint32(b) {
		return prev, false
	}
	return link{seq: le.Uint64(b[24:]), end: int64(le.Uint64(b[32:]))}, true
}

// endOfBatches is what is found where the log ends cleanly.
const endOfBatches = "no batch begins here"

// batchHeader describes a batch.
type batchHeader struct {
	length  uint32
	count   uint32
	body    uint32
	durable link // everything before this place was durable
}

func (h batchHeader) encode(b []byte, s *summer, l life, off int64) {
	le.PutUint32(b[0:], batchMagic)
	le.PutUint32(b[8:], h.length)
	le.PutUint32(b[12:], h.count)
	le.PutUint32(b[16:], h.body)
	le.PutUint32(b[20:], 0)
	le.PutUint64(b[24:], h.durable.seq)
	le.PutUint64(b[32:], uint64(h.durable.end))
	le.PutUint32(b[4:], s.sum(l, off, b[8:batchHead]))
}

func decodeBatchHeader(b []byte, s *summer, l life, off int64) (h batchHeader, reason string) {
	if le.Uint32(b) != batchMagic {
		return h, endOfBatches
	}
	if s.sum(l, off, b[8:batchHead]) != le.Uint32(b[4:]) {
		return h, "checksum of the batch header is wrong"
	}
	return batchHeader{
		length: le.Uint32(b[8:]), count: le.Uint32(b[12:]), body: le.Uint32(b[16:]),
		durable: link{seq: le.Uint64(b[24:]), end: int64(le.Uint64(b[32:]))},
	}, ""
}

// frameHeader describes a frame; its checksum is put in by the committer.
type frameHeader struct {
	kind       Kind
	typ        raft.LogType
	length     uint32 // of data and extensions
	extensions uint32
	payload    uint32 // checksum
	group      uint64
	index      uint64
	term       uint64
	at         time.Time
}

// append adds the header without its checksum.
func (h *frameHeader) append(b []byte) []byte {
	b = append(b, 0, 0, 0, 0, byte(h.kind), byte(h.typ), 0, 0)
	b = le.AppendUint32(b, h.length)
	b = le.AppendUint32(b, h.extensions)
	b = le.AppendUint32(b, h.payload)
	b = le.AppendUint32(b, uint32(h.at.Nanosecond()))
	b = le.AppendUint64(b, h.group)
	b = le.AppendUint64(b, h.index)
	b = le.AppendUint64(b, h.term)
	return le.AppendUint64(b, uint64(h.at.Unix()))
}

func decodeFrameHeader(b []byte) frameHeader {
	return frameHeader{
		kind: Kind(b[4]), typ: raft.LogType(b[5]),
		length: le.Uint32(b[8:]), extensions: le.Uint32(b[12:]), payload: le.Uint32(b[16:]),
		group: le.Uint64(b[24:]), index: le.Uint64(b[32:]), term: le.Uint64(b[40:]),
		at: time.Unix(int64(le.Uint64(b[48:])), int64(le.Uint32(b[20:]))).UTC(),
	}
}

// payloadSum is the checksum of a frame's payload.
func payloadSum(data, extensions []byte) uint32 {
	return crc32.Update(crc32.Checksum(data, castagnoli), castagnoli, extensions)
}

// checkFrame decodes the frame at the start of b, which may hold more.
func checkFrame(b []byte, s *summer, l life, off int64) (f Frame, size int, reason string) {
	if len(b) < frameHead {
		return f, 0, "too short for a frame"
	}
	if s.sum(l, off, b[4:frameHead]) != le.Uint32(b) {
		return f, 0, "checksum of the frame header is wrong"
	}
	h := decodeFrameHeader(b)
	if int64(h.length) > int64(len(b)-frameHead) || h.extensions > h.length {
		return f, 0, "length of the frame is impossible"
	}
	size = frameHead + int(h.length)
	data := b[frameHead : size-int(h.extensions) : size-int(h.extensions)]
	extensions := b[size-int(h.extensions) : size : size]
	if payloadSum(data, extensions) != h.payload {
		return f, 0, "checksum of the frame's payload is wrong"
	}
	return Frame{
		FileSeq: l.seq, Offset: off, Size: size, Kind: h.kind,
		Group: h.group, Index: h.index, Term: h.term, Type: h.typ, AppendedAt: h.at,
		Data: data, Extensions: extensions,
	}, size, ""
}
