package group

import (
	"encoding/binary"
	"errors"
	"math"
)

var errTruncated = errors.New("truncated")

// reader decodes Kafka's encoding from bytes that are not trusted: it never
// panics, allocates no more than what it was given, and after an error yields
// zero values. kmsg would allocate, and loop, by counts that nothing bears out.
type reader struct {
	src      []byte
	flexible bool
	err      error
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.src) {
		if r.err == nil {
			r.err = errTruncated
		}
		r.src = nil
		return nil
	}
	b := r.src[:n:n]
	r.src = r.src[n:]
	return b
}

func (r *reader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) int64() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (r *reader) uvarint() int {
	v, n := binary.Uvarint(r.src)
	if n <= 0 || v > math.MaxInt32 {
		r.take(-1)
		return 0
	}
	r.src = r.src[n:]
	return int(v)
}

// length reads a length or count; -1 for null.
func (r *reader) length(wide bool) int {
	switch {
	case r.flexible:
		return r.uvarint() - 1
	case wide:
		return int(r.int32())
	}
	return int(r.int16())
}

// bytes reads bytes without copying; nil for null.
func (r *reader) bytes() []byte {
	if n := r.length(true); n >= 0 && r.err == nil {
		return r.take(n)
	}
	return nil
}

// rawString reads a string without copying; nil for null.
func (r *reader) rawString() []byte {
	n := r.length(false)
	if n < 0 || r.err != nil {
		return nil
	}
	if n > math.MaxInt16 { // could not be written again in the older versions
		n = -1
	}
	return r.take(n)
}

func (r *reader) string() string { return string(r.rawString()) }

func (r *reader) nullableString() *string {
	b := r.rawString()
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

// count reads how many elements follow, of which each takes at least size bytes.
func (r *reader) count(size int) int {
	n := max(r.length(true), 0)
	if n > len(r.src)/size {
		r.take(-1)
		return 0
	}
	return n
}

// tags skips the tagged fields that end a structure, in flexible versions. known
// is given each one's number and value.
func (r *reader) tags(known func(tag int, value []byte)) {
	if !r.flexible {
		return
	}
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		tag := r.uvarint()
		value := r.take(r.uvarint())
		if r.err == nil && known != nil {
			known(tag, value)
		}
	}
}
