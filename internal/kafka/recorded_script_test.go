package kafka_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/raftsman/raftsman/internal/kafka"
)

// A fuzz input is a script, and any bytes are one:
//
//	script  = request*
//	request = seed (2 bytes), flags, edits: count (1 byte), edit*
//	edit    = what, where (2 bytes), how
//
// A seed of 0xffff means that the request follows: its length (2 bytes), itself.
// Numbers are big-endian and taken modulo what there is.

// Flags of a request.
const (
	onSecond  = 1 << iota // sent on the second connection
	asSent                // as the client sent it, without the node's names
	awaited               // what follows waits for the answer, and knows the ids in it
	resealed              // batches get right lengths and checksums again
	misframed             // the frame's length stays as it was before the edits
	hungUp                // the connection is closed right behind it
)

// What an edit does.
const (
	xorByte    = iota // where, with how
	setField          // field where to extreme how
	cutEnd            // from where on
	repeat            // how bytes from where on, once more
	remove            // how bytes from where on
	splice            // field where and the rest from another seed
	setVersion        // how
	setKey            // how
	insert            // how equal bytes at where
	multiply          // the first element of array where, 2 to the how times
	setString         // field where to word how
	setLength         // the frame's length to extreme how
	setInside         // four bytes inside of a field of bytes to extreme where, at how
	edits             // how many there are
)

const (
	maxRequests = 12       // of a script
	maxEdits    = 8        // of a request
	maxSent     = 96 << 10 // bytes of a request
)

// request is a step of a script.
type request struct {
	frame  []byte // from the API key on
	prefix uint32 // the frame's length, as it is sent
	flags  byte
}

type scriptReader []byte

func (r *scriptReader) byte() (b byte) {
	if len(*r) > 0 {
		b, *r = (*r)[0], (*r)[1:]
	}
	return b
}

func (r *scriptReader) word() int { return int(r.byte())<<8 | int(r.byte()) }

// parse reads a script.
func parse(script []byte) (all []request) {
	r := scriptReader(script)
	for len(r) > 0 && len(all) < maxRequests {
		var frame []byte
		id, flags := r.word(), byte(0)
		if id == 0xffff {
			n := min(r.word(), len(r))
			frame, r = slices.Clone(r[:n]), r[n:]
			flags = r.byte()
		} else {
			s := seeds()[id%len(seeds())]
			flags = r.byte()
			if frame = slices.Clone(s.tame); flags&asSent != 0 {
				frame = slices.Clone(s.frame)
			}
		}
		q := request{frame: frame, flags: flags, prefix: uint32(len(frame))}
		length := -1
		for range r.byte() % (maxEdits + 1) {
			what, where, how := r.byte()%edits, r.word(), r.byte()
			if what == setLength {
				length = int(how)
				continue
			}
			q.frame = edit(q.frame, what, where, how)
			q.frame = q.frame[:min(len(q.frame), maxSent)]
		}
		if flags&resealed != 0 {
			reseal(q.frame)
		}
		if flags&misframed == 0 {
			q.prefix = uint32(len(q.frame))
		}
		if length >= 0 {
			q.prefix = uint32(extreme(byte(length), int64(len(q.frame))))
		}
		all = append(all, q)
	}
	return all
}

// extreme is a number that breaks things, near was or far from it.
func extreme(how byte, was int64) int64 {
	list := [...]int64{
		-1, -2, 0, 1, 2, 3, was + 1, was - 1, was * 2, -was, 127, 128, 255, 256, math.MaxInt16, math.MinInt16, math.MaxUint16, 1 << 16,
		1 << 18, 1 << 20, 1 << 24, 1 << 28, math.MaxInt32, math.MaxInt32 - 1, math.MinInt32, math.MaxUint32, 1 << 32, math.MaxInt64, math.MinInt64,
		1000, 6000, 100, 5, 7, 10,
		mostOfProduce: 100 << 20, mostOfOthers: 8 << 20,
	}
	return list[int(how)%len(list)]
}

// Extremes that are the longest frames that the server takes.
const (
	mostOfProduce = 35
	mostOfOthers  = 36
)

var words = []string{
	"", "t", "c", "__consumer_offsets", holdGroup, holdMember, "x\x00y", "\xff\xfe", "..", "a/b", string(make([]byte, 249)), string(make([]byte, 250)),
	string(bytes.Repeat([]byte("long"), 8000)), "1", "2", "-1", "retention.ms", "cleanup.policy", "compact", "consumer", "range", "9223372036854775807", "1e9", "NaN",
}

func edit(b []byte, what byte, where int, how byte) []byte {
	at := where % (len(b) + 1)
	switch what {
	case xorByte:
		if at < len(b) {
			b[at] ^= how | 1
		}
	case cutEnd:
		return b[:at]
	case repeat:
		return slices.Insert(b, at, b[at:min(len(b), at+int(how))]...)
	case remove:
		return slices.Delete(b, at, min(len(b), at+int(how)))
	case insert:
		return slices.Insert(b, at, bytes.Repeat([]byte{how * 0x55}, int(how>>2))...)
	case setVersion:
		if len(b) >= 4 {
			binary.BigEndian.PutUint16(b[2:], uint16(int8(how>>1)))
		}
	case setKey:
		if len(b) >= 2 {
			apis := kafka.APIs()
			binary.BigEndian.PutUint16(b, uint16(apis[int(how)%len(apis)].Key))
		}
	case splice:
		other := seeds()[(where^int(how)<<8)%len(seeds())].tame
		mine, theirs := kafka.Spans(b), kafka.Spans(other)
		if len(mine) > 0 && len(theirs) > 0 {
			return append(b[:mine[where%len(mine)].At:mine[where%len(mine)].At], other[theirs[int(how)%len(theirs)].At:]...)
		}
	case setField, multiply, setString:
		return editField(b, what, where, how)
	case setInside:
		if all := slices.DeleteFunc(kafka.Spans(b), func(s kafka.Span) bool { return s.Kind != 'y' || s.Contents-s.End < 4 }); len(all) > 0 {
			s := all[where%len(all)]
			at := s.End + int(how)%(s.Contents-s.End-3)
			binary.BigEndian.PutUint32(b[at:], uint32(extreme(byte(where>>2), int64(binary.BigEndian.Uint32(b[at:])))))
		}
	}
	return b
}

func editField(b []byte, what byte, where int, how byte) []byte {
	spans := kafka.Spans(b)
	if what != setField {
		kind := byte('[')
		if what == setString {
			kind = 's'
		}
		spans = slices.DeleteFunc(spans, func(s kafka.Span) bool { return s.Kind != kind || kind == '[' && s.Contents == s.End })
	}
	if len(spans) == 0 {
		return b
	}
	s := spans[where%len(spans)]
	switch {
	case what == setString:
		w := words[int(how)%len(words)]
		field := append(number(s, int64(len(w))), w...)
		return slices.Replace(b, s.At, s.Contents, field...)
	case what == multiply:
		element := b[s.End:s.Contents]
		n := min(1<<(how%18), maxSent/max(len(element), 1))
		return slices.Replace(b, s.At, s.Contents, append(number(s, valueOf(b, s)-1+int64(n)), bytes.Repeat(element, n)...)...)
	case s.Kind == 'n':
		v := uint64(extreme(how, valueOf(b, s)))
		for i := s.End - 1; i >= s.At; i-- {
			b[i] = byte(v)
			v >>= 8
		}
		return b
	}
	return slices.Replace(b, s.At, s.End, number(s, extreme(how, valueOf(b, s)))...)
}

// number is a field's length or count.
func number(s kafka.Span, v int64) []byte {
	switch {
	case s.Kind == 't':
		return kbin.AppendUvarint(nil, uint32(v))
	case s.Flexible:
		return kbin.AppendUvarint(nil, uint32(v+1))
	case s.Kind == 's':
		return binary.BigEndian.AppendUint16(nil, uint16(v))
	}
	return binary.BigEndian.AppendUint32(nil, uint32(v))
}

// valueOf is the number, the length or the count of a field.
func valueOf(b []byte, s kafka.Span) (v int64) {
	if s.Flexible && s.Kind != 'n' {
		u, _ := kbin.Uvarint(b[s.At:])
		if s.Kind == 't' {
			return int64(u)
		}
		return int64(u) - 1
	}
	for _, x := range b[s.At:s.End] {
		v = v<<8 | int64(x)
	}
	return v
}

// reseal makes the record batches of a Produce request right, as far as it decodes.
func reseal(frame []byte) {
	for _, s := range kafka.Spans(frame) {
		if s.Kind == 'y' && s.Contents-s.End >= 61 {
			kafka.Seal(frame[s.End:s.Contents])
		}
	}
}

// plain is the script of some seeds, one after the other.
func plain(flags byte, ids ...int) (script []byte) {
	for _, id := range ids {
		script = append(script, byte(id>>8), byte(id), flags, 0)
	}
	return script
}

// literal is the script of requests that are no seeds.
func literal(flags byte, frames ...[]byte) (script []byte) {
	for _, f := range frames {
		script = append(script, 0xff, 0xff, byte(len(f)>>8), byte(len(f)))
		script = append(append(script, f...), flags, 0)
	}
	return script
}

// systematic are scripts that set each field of each filled seed to an extreme.
func systematic() (all [][]byte) {
	var script []byte
	n := 0
	for id, s := range seeds() {
		if s.client != "filled" {
			continue
		}
		for where := range kafka.Spans(s.tame) {
			for _, how := range []byte{0, 22} { // -1 and the greatest
				script = append(script, byte(id>>8), byte(id), awaited, 1, setField, byte(where>>8), byte(where), how)
				if n++; n%maxRequests == 0 {
					all, script = append(all, script), nil
				}
			}
		}
	}
	return append(all, script)
}

// Any edit of any seed is done, and one of a field leaves a request that decodes
// unless it is meant not to.
func TestEdits(t *testing.T) {
	for id, s := range seeds() {
		for what := range byte(edits) {
			for i := range byte(20) {
				q := parse([]byte{byte(id >> 8), byte(id), 0, 1, what, i >> 2, i * 7, i * 3})
				if len(q) != 1 || len(q[0].frame) > maxSent {
					t.Fatalf("seed %d, edit %d %d: %d requests", id, what, i, len(q))
				}
				if _, _, ok := kafka.DecodeFrame(s.tame); ok && (what == setString || what == multiply && i*3%18 < 12) {
					if _, _, ok := kafka.DecodeFrame(q[0].frame); !ok && len(q[0].frame) < maxSent {
						t.Fatalf("seed %d, edit %d %d: does not decode: %x", id, what, i, q[0].frame)
					}
				}
			}
		}
	}
}
