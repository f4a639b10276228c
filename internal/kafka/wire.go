package kafka

import "github.com/twmb/franz-go/pkg/kbin"

// encoder appends Kafka primitives for the two responses that are written by
// hand.
type encoder struct {
	b        []byte
	flexible bool
}

func (e *encoder) i16(v int16) { e.b = kbin.AppendInt16(e.b, v) }
func (e *encoder) i32(v int32) { e.b = kbin.AppendInt32(e.b, v) }
func (e *encoder) i64(v int64) { e.b = kbin.AppendInt64(e.b, v) }

func (e *encoder) uuid(v [16]byte) { e.b = append(e.b, v[:]...) }

func (e *encoder) str(v string) {
	if e.flexible {
		e.b = kbin.AppendCompactString(e.b, v)
	} else {
		e.b = kbin.AppendString(e.b, v)
	}
}

func (e *encoder) nullableStr(v *string) {
	if e.flexible {
		e.b = kbin.AppendCompactNullableString(e.b, v)
	} else {
		e.b = kbin.AppendNullableString(e.b, v)
	}
}

// count starts an array of n elements; n < 0 is null.
func (e *encoder) count(n int) {
	if e.flexible {
		e.b = kbin.AppendUvarint(e.b, uint32(n+1))
	} else {
		e.i32(int32(n))
	}
}

// noTags ends a structure.
func (e *encoder) noTags() { e.tags(0) }

// tags starts the tags that end a structure.
func (e *encoder) tags(n int) {
	if e.flexible {
		e.b = kbin.AppendUvarint(e.b, uint32(n))
	}
}

// leaderHint is who leads now, for clients that asked somebody else.
type leaderHint struct{ leader, epoch int32 }

var noHint = leaderHint{-1, -1}

// currentLeader writes the tag of a leader hint.
func (e *encoder) currentLeader(tag uint32, h leaderHint) {
	e.b = append(kbin.AppendUvarint(e.b, tag), 9) // its size
	e.i32(h.leader)
	e.i32(h.epoch)
	e.noTags()
}

// endTags ends a response: tag 0 has the addresses of the hinted leaders.
func (e *encoder) endTags(nodes []Broker) {
	if len(nodes) == 0 {
		e.noTags()
		return
	}
	in := encoder{flexible: true}
	in.count(len(nodes))
	for _, n := range nodes {
		in.i32(n.ID)
		in.str(n.Host)
		in.i32(n.Port)
		in.nullableStr(rackOf(n))
		in.noTags()
	}
	e.tags(1)
	e.b = kbin.AppendUvarint(e.b, 0)
	e.b = kbin.AppendUvarint(e.b, uint32(len(in.b)))
	e.b = append(e.b, in.b...)
}

func rackOf(b Broker) *string {
	if b.Rack == "" {
		return nil
	}
	return &b.Rack
}
