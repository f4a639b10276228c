package seglog

import "sync/atomic"

// Data is what Read returns: whole, consecutive batches, as slices of memory
// that is shared and must not be changed. Release it when they have been sent.
// The zero Data is empty.
type Data struct{ v *view }

// Bytes returns the pieces, in order. A batch may lie in two of them. They are
// valid until Release.
func (d Data) Bytes() [][]byte {
	if d.v == nil {
		return nil
	}
	return d.v.bufs
}

// Len is the sum of the lengths of the pieces.
func (d Data) Len() int {
	if d.v == nil {
		return 0
	}
	return d.v.size
}

// Next is the offset behind the last batch; 0 when the Data is empty.
func (d Data) Next() int64 {
	if d.v == nil {
		return 0
	}
	return d.v.next
}

// Release gives the memory back. A second call does nothing.
func (d Data) Release() {
	if d.v != nil {
		d.v.release()
	}
}

// view is a range of one segment in memory that is held.
type view struct {
	pos      int64 // of the first byte in the segment
	size     int
	bufs     [][]byte
	held     []*chunk
	next     int64 // see Data.Next
	released atomic.Bool

	// Room for a usual range, so that a Read allocates once.
	bufRoom  [6][]byte
	heldRoom [6]*chunk
}

func newView(pos int64) *view {
	v := &view{pos: pos}
	v.bufs, v.held = v.bufRoom[:0], v.heldRoom[:0]
	return v
}

// add takes over one reference to c.
func (v *view) add(c *chunk, from, to int64) {
	v.held = append(v.held, c)
	v.bufs = append(v.bufs, c.bytes(from, to))
	v.size += int(to - from)
}

func (v *view) release() {
	if v.released.Swap(true) {
		return
	}
	for _, c := range v.held {
		c.release()
	}
}

func (v *view) end() int64 { return v.pos + int64(v.size) }

// header returns the batch header at pos, from buf if it lies in two pieces.
// The view must hold it.
func (v *view) header(pos int64, buf *[BatchHeaderLen]byte) Batch {
	at := int(pos - v.pos)
	for i, b := range v.bufs {
		if at >= len(b) {
			at -= len(b)
			continue
		}
		if len(b)-at >= BatchHeaderLen {
			return Batch(b[at : at+BatchHeaderLen])
		}
		n := copy(buf[:], b[at:])
		for _, b := range v.bufs[i+1:] {
			n += copy(buf[n:], b)
		}
		return Batch(buf[:])
	}
	panic("BUG: header outside of a view")
}

// cut shrinks the view to [from, to), and lets go of what is outside.
func (v *view) cut(from, to int64) {
	at := v.pos
	k := 0
	for i, b := range v.bufs {
		lo, hi := max(from, at), min(to, at+int64(len(b)))
		c := v.held[i]
		if lo < hi {
			v.bufs[k], v.held[k] = b[lo-at:hi-at:hi-at], c
			k++
		} else {
			c.release()
		}
		at += int64(len(b))
	}
	clear(v.bufs[k:])
	clear(v.held[k:])
	v.bufs, v.held = v.bufs[:k], v.held[:k]
	v.pos, v.size = from, int(to-from)
}

// contiguous returns all bytes as one slice, copied to *buf if need be.
func (v *view) contiguous(buf *[]byte) []byte {
	if len(v.bufs) == 1 {
		return v.bufs[0]
	}
	*buf = (*buf)[:0]
	for _, b := range v.bufs {
		*buf = append(*buf, b...)
	}
	return *buf
}
