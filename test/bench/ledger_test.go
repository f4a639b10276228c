package main

import (
	"testing"
	"time"
)

func written(size int, id uint64) []byte {
	b := make([]byte, size)
	fill(b, id, time.Now())
	return b
}

// ledgerOf returns a ledger of n messages, message i at offset i.
func ledgerOf(n int) *ledger {
	l := &ledger{}
	for i := range n {
		l.ack(int64(i), identity(3, uint64(i)))
	}
	return l
}

func TestMessages(t *testing.T) {
	for _, size := range []int{headerBytes, 17, 1024, len(noise) + 100, 3 * len(noise)} {
		for _, id := range []uint64{0, 1, identity(999, 1<<39), ^uint64(0)} {
			b := written(size, id)
			got, sent, err := parse(b)
			if err != nil || got != id || time.Since(sent) < 0 || time.Since(sent) > time.Hour {
				t.Errorf("%d bytes: %x sent %v, %v; want %x", size, got, sent, err, id)
			}
			if !intact(b, id) {
				t.Errorf("%d bytes of %x are not intact", size, id)
			}
			if size > headerBytes {
				b[size-1]++
				if intact(b, id) {
					t.Errorf("%d bytes of %x: a changed byte is not seen", size, id)
				}
			}
		}
	}
	if _, _, err := parse(make([]byte, headerBytes-1)); err == nil {
		t.Error("a message that is too short: no error")
	}
}

func TestLedger(t *testing.T) {
	const n = 1000
	for _, c := range []struct {
		name  string
		start int64
		read  func(r *reading, offset int64, value []byte)
		want  verdict
	}{
		{"all is there", 0, func(r *reading, o int64, v []byte) { r.add(o, v) }, verdict{Acked: n, Read: n}},
		{"one is missing", 0, func(r *reading, o int64, v []byte) {
			if o != 500 {
				r.add(o, v)
			}
		}, verdict{Acked: n, Read: n - 1, Missing: 1}},
		{"the last are missing", 0, func(r *reading, o int64, v []byte) {
			if o < 900 {
				r.add(o, v)
			}
		}, verdict{Acked: n, Read: 900, Missing: 100}},
		{"the first are missing", 0, func(r *reading, o int64, v []byte) {
			if o >= 70 {
				r.add(o, v)
			}
		}, verdict{Acked: n, Read: n - 70, Missing: 70}},
		{"the first were removed by retention", 70, func(r *reading, o int64, v []byte) {
			if o >= 70 {
				r.add(o, v)
			}
		}, verdict{Acked: n, Read: n - 70}},
		{"one more is missing than retention removed", 70, func(r *reading, o int64, v []byte) {
			if o > 70 {
				r.add(o, v)
			}
		}, verdict{Acked: n, Read: n - 71, Missing: 1}},
		{"another message is at an offset", 0, func(r *reading, o int64, v []byte) {
			if o == 500 {
				v = written(100, identity(3, 77777))
			}
			r.add(o, v)
		}, verdict{Acked: n, Read: n, Changed: 1}},
		{"a byte is wrong", 0, func(r *reading, o int64, v []byte) {
			if o == 500 {
				v[50]++
			}
			r.add(o, v)
		}, verdict{Acked: n, Read: n, Damaged: 1}},
		{"a message of another partition", 0, func(r *reading, o int64, v []byte) {
			if o == 500 {
				v = written(100, identity(4, 500))
			}
			r.add(o, v)
		}, verdict{Acked: n, Read: n, Changed: 1}},
		{"read twice", 0, func(r *reading, o int64, v []byte) { r.add(o, v); r.add(o, v) }, verdict{Acked: n, Read: 2 * n}},
	} {
		r := &reading{of: ledgerOf(n)}
		for i := range int64(n) {
			c.read(r, i, written(100, identity(3, uint64(i))))
		}
		r.add(n, written(100, identity(3, n))) // never acknowledged, and there all the same
		c.want.Read++
		got := r.compare(c.start)
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if bad := c.want.Missing+c.want.Changed+c.want.Damaged > 0; (got.err() != nil) != bad {
			t.Errorf("%s: error %v", c.name, got.err())
		}
	}
}

func TestLedgerSeesAnOffsetGivenTwice(t *testing.T) {
	l := ledgerOf(10)
	l.ack(4, identity(3, 10))
	l.ack(-1, identity(3, 11)) // no offset at all
	l.ack(1<<60, identity(3, 12))
	r := &reading{of: l}
	if v := r.compare(0); v.Twice != 3 || v.Missing != 10 || v.err() == nil {
		t.Errorf("%+v %v", v, v.err())
	}
}
