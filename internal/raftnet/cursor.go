package raftnet

import (
	"encoding/binary"
	"errors"
)

var errShort = errors.New("message is short")

// cursor reads fields off bytes from the network. After a read past the end it
// returns zeroes; err tells.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.b) {
		c.bad = true
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) u8() byte {
	if p := c.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if p := c.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if p := c.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if p := c.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (c *cursor) str8() string  { return string(c.take(int(c.u8()))) }
func (c *cursor) str16() string { return string(c.take(int(c.u16()))) }

// err is errShort after a read past the end.
func (c *cursor) err() error {
	if c.bad {
		return errShort
	}
	return nil
}

// end also fails if bytes are left.
func (c *cursor) end() error {
	if c.bad {
		return errShort
	}
	if len(c.b) != 0 {
		return errors.New("message has bytes after its end")
	}
	return nil
}
