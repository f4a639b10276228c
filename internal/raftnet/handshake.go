package raftnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/raftsman/raftsman/internal/identity"
)

const (
	protocolVersion = 1
	lowestVersion   = 1

	magic         = "RSMN"
	preludeLen    = 4 + 2 + 2 + 2
	maxHandshake  = 4096
	statusWelcome = 0
	statusRefused = 1
)

type hello struct {
	version, lowest uint16
	from            identity.Identity
	target          int32
	class           Class
	slot            byte
}

type answer struct {
	version, lowest uint16
	status          byte
	from            identity.Identity
	life            uint64 // of the answering process; another one has another
	reason          string
}

// refusedError is a handshake that the other side, or this one, turned down.
type refusedError struct{ reason string }

func (e *refusedError) Error() string { return "refused: " + e.reason }

func appendStr8(b []byte, s string) []byte {
	s = s[:min(len(s), 255)]
	return append(append(b, byte(len(s))), s...)
}

// seal puts prelude and checksum around a body.
func seal(version, lowest uint16, body []byte) []byte {
	b := make([]byte, 0, preludeLen+len(body)+4)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, version)
	b = binary.BigEndian.AppendUint16(b, lowest)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, body...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readSealed reads one handshake message and checks it.
func readSealed(r io.Reader) (version, lowest uint16, body []byte, err error) {
	var prelude [preludeLen]byte
	if _, err := io.ReadFull(r, prelude[:]); err != nil {
		return 0, 0, nil, err
	}
	if string(prelude[:4]) != magic {
		return 0, 0, nil, errors.New("the other side does not speak raftsman's node protocol")
	}
	n := int(binary.BigEndian.Uint16(prelude[8:]))
	if n > maxHandshake {
		return 0, 0, nil, fmt.Errorf("handshake of %d bytes is above the limit of %d", n, maxHandshake)
	}
	rest := make([]byte, n+4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return 0, 0, nil, err
	}
	crc := crc32.Update(crc32.Checksum(prelude[:], castagnoli), castagnoli, rest[:n])
	if crc != binary.BigEndian.Uint32(rest[n:]) {
		return 0, 0, nil, errors.New("handshake has a wrong checksum")
	}
	return binary.BigEndian.Uint16(prelude[4:]), binary.BigEndian.Uint16(prelude[6:]), rest[:n], nil
}

func (h *hello) encode() []byte {
	b := appendStr8(nil, h.from.ClusterID)
	b = binary.BigEndian.AppendUint32(b, uint32(h.from.NodeID))
	b = appendStr8(b, h.from.Incarnation)
	b = binary.BigEndian.AppendUint32(b, uint32(h.target))
	b = append(b, byte(h.class), h.slot)
	return seal(h.version, h.lowest, b)
}

func readHello(r io.Reader) (h hello, err error) {
	version, lowest, body, err := readSealed(r)
	if err != nil {
		return h, err
	}
	c := cursor{b: body}
	h = hello{version: version, lowest: lowest}
	h.from.ClusterID = c.str8()
	h.from.NodeID = int32(c.u32())
	h.from.Incarnation = c.str8()
	h.target = int32(c.u32())
	h.class, h.slot = Class(c.u8()), c.u8()
	return h, c.err()
}

func (a *answer) encode() []byte {
	b := append([]byte(nil), a.status)
	b = appendStr8(b, a.from.ClusterID)
	b = binary.BigEndian.AppendUint32(b, uint32(a.from.NodeID))
	b = appendStr8(b, a.from.Incarnation)
	b = binary.BigEndian.AppendUint64(b, a.life)
	reason := a.reason[:min(len(a.reason), maxErrorText)]
	b = binary.BigEndian.AppendUint16(b, uint16(len(reason)))
	b = append(b, reason...)
	return seal(a.version, a.lowest, b)
}

func readAnswer(r io.Reader) (a answer, err error) {
	version, lowest, body, err := readSealed(r)
	if err != nil {
		return a, err
	}
	c := cursor{b: body}
	a = answer{version: version, lowest: lowest, status: c.u8()}
	a.from.ClusterID = c.str8()
	a.from.NodeID = int32(c.u32())
	a.from.Incarnation = c.str8()
	a.life = c.u64()
	a.reason = c.str16()
	return a, c.err()
}

// judge decides about a hello: an empty reason is a welcome. check may be nil.
func judge(h hello, self identity.Identity, check func(node int32, incarnation string) error) (version uint16, reason string) {
	version = min(h.version, protocolVersion)
	switch {
	case version < lowestVersion || version < h.lowest:
		return 0, fmt.Sprintf("no common protocol version: %d to %d here, %d to %d there", lowestVersion, protocolVersion, h.lowest, h.version)
	case h.from.ClusterID != self.ClusterID:
		return 0, fmt.Sprintf("this is cluster %s, not %s", self.ClusterID, h.from.ClusterID)
	case h.target != self.NodeID:
		return 0, fmt.Sprintf("this is node %d, not node %d", self.NodeID, h.target)
	case h.from.NodeID == self.NodeID:
		return 0, fmt.Sprintf("this is node %d itself: two nodes have the same id", self.NodeID)
	case h.from.NodeID <= 0:
		return 0, fmt.Sprintf("%d is no node id", h.from.NodeID)
	case h.class > Bulk:
		return 0, fmt.Sprintf("unknown %s of connections", h.class)
	}
	if check != nil {
		if err := check(h.from.NodeID, h.from.Incarnation); err != nil {
			return 0, err.Error()
		}
	}
	return version, ""
}

// judgeAnswer is the dialler's side of it.
func judgeAnswer(a answer, self identity.Identity, target int32, check func(node int32, incarnation string) error) error {
	switch {
	case a.status != statusWelcome:
		return &refusedError{a.reason}
	case a.from.ClusterID != self.ClusterID:
		return &refusedError{fmt.Sprintf("it belongs to cluster %s, not %s", a.from.ClusterID, self.ClusterID)}
	case a.from.NodeID != target:
		return &refusedError{fmt.Sprintf("it is node %d, not node %d", a.from.NodeID, target)}
	case a.version < lowestVersion || a.version > protocolVersion:
		return &refusedError{fmt.Sprintf("it chose protocol version %d", a.version)}
	}
	if check != nil {
		if err := check(a.from.NodeID, a.from.Incarnation); err != nil {
			return &refusedError{err.Error()}
		}
	}
	return nil
}

// Caller reads the beginning of a connection between nodes, as a proxy sees it, and
// says which node dials.
func Caller(r io.Reader) (node int32, err error) {
	h, err := readHello(r)
	return h.from.NodeID, err
}
