package seglog

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// keyHash is a strong hash of a record's key. Two keys with the same one would
// count as one key, so it is one that nobody can find two for: half of a SHA-256.
type keyHash struct{ lo, hi uint64 }

func hashKey(key []byte) keyHash {
	sum := sha256.Sum256(key)
	return keyHash{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
}

// keySlot is a place in a keyMap; next is 0 when it is empty.
type keySlot struct {
	hash keyHash
	next int64 // offset + 1 of the last record with the key
}

const (
	keySlotBytes = 24
	leastKeys    = 1 << 10
)

// errManyKeys says that a keyMap is full.
var errManyKeys = errors.New("keys do not fit into the memory that compaction has")

// keyMap holds the last offset of each of a bounded number of keys.
type keyMap struct {
	slots []keySlot
	used  int
	bound int
}

// newKeyMap makes a map for up to keys keys that takes no more than bytes.
func newKeyMap(keys, bytes int64) *keyMap {
	n := min(max(keys, leastKeys), max(bytes/keySlotBytes, leastKeys)*3/4)
	return &keyMap{slots: make([]keySlot, n*4/3+1), bound: int(n)}
}

func (m *keyMap) reset() {
	clear(m.slots)
	m.used = 0
}

// slot is where a key is, or would be.
func (m *keyMap) slot(h keyHash) *keySlot {
	i := h.lo % uint64(len(m.slots))
	for {
		s := &m.slots[i]
		if s.next == 0 || s.hash == h {
			return s
		}
		if i++; i == uint64(len(m.slots)) {
			i = 0
		}
	}
}

// put notes that a record with the key is at offset. Offsets rise.
func (m *keyMap) put(h keyHash, offset int64) error {
	s := m.slot(h)
	if s.next == 0 {
		if m.used == m.bound {
			return errManyKeys
		}
		m.used++
		s.hash = h
	}
	s.next = offset + 1
	return nil
}

// superseded says whether the key has a record behind offset.
func (m *keyMap) superseded(h keyHash, offset int64) bool {
	return m.slot(h).next > offset+1
}
