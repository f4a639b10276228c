package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
)

type kind uint8

const (
	kindBatches      kind = 1
	kindEpochStart   kind = 2
	kindLogStart     kind = 3
	kindReached      kind = 4
	kindExpire       kind = 5
	kindSegmentBytes kind = 6
	// kindTermBatches are batches that count only in the term in which they were
	// meant to be proposed.
	kindTermBatches kind = 7
	kindRoll        kind = 8
	kindCompact     kind = 9
	// These fill an empty partition from a backup.
	kindRefillBegin kind = 10
	kindRefill      kind = 11
	kindRefillEnd   kind = 12

	lastKind = kindRefillEnd
)

const (
	commandVersion = 1
	commandHead    = 1 + 1 + 8
)

// command is the decoded Extensions of an entry.
type command struct {
	kind kind
	time int64    // ms since 1970, from the clock of the leader that proposed it
	arg  [2]int64 // by kind
}

func args(k kind) int {
	switch k {
	case kindBatches:
		return 0
	case kindReached, kindCompact, kindRefillBegin, kindRefillEnd:
		return 2
	default:
		return 1
	}
}

func (c command) encode() []byte {
	n := args(c.kind)
	b := make([]byte, 0, commandHead+8*n)
	b = append(b, commandVersion, byte(c.kind))
	b = binary.BigEndian.AppendUint64(b, uint64(c.time))
	for _, v := range c.arg[:n] {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func decodeCommand(ext []byte) (c command, err error) {
	if len(ext) < commandHead {
		return c, errors.New("entry has no command")
	}
	if ext[0] != commandVersion {
		return c, fmt.Errorf("entry has version %d, this program knows %d: run a newer one", ext[0], commandVersion)
	}
	c.kind = kind(ext[1])
	if c.kind < kindBatches || c.kind > lastKind {
		return c, fmt.Errorf("entry has kind %d, which this program does not know: run a newer one", c.kind)
	}
	c.time = int64(binary.BigEndian.Uint64(ext[2:]))
	rest := ext[commandHead:]
	n := args(c.kind)
	if len(rest) != 8*n {
		return c, fmt.Errorf("entry of kind %d has %d bytes of arguments, want %d", c.kind, len(rest), 8*n)
	}
	for i := range n {
		c.arg[i] = int64(binary.BigEndian.Uint64(rest[8*i:]))
	}
	return c, nil
}
