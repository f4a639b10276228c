package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// The keys under which raft keeps its vote; the two are stored as one record.
const (
	keyVoteTerm      = "LastVoteTerm"
	keyVoteCandidate = "LastVoteCand"
)

// errNotFound is recognised by raft by its text.
var errNotFound = errors.New("not found")

// Get implements raft.StableStore. A missing key is an error whose text is
// exactly "not found". The value is the caller's.
func (g *Group) Get(key []byte) ([]byte, error) {
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	if g.log.closed {
		return nil, ErrClosed
	}
	switch string(key) {
	case keyVoteTerm:
		if g.vote.size == 0 {
			return nil, errNotFound
		}
		return binary.BigEndian.AppendUint64(nil, g.term), nil
	case keyVoteCandidate:
		if g.vote.size == 0 {
			return nil, errNotFound
		}
		return bytes.Clone(g.vote.bytes), nil
	}
	v, ok := g.stable[string(key)]
	if !ok {
		return nil, errNotFound
	}
	return bytes.Clone(v.bytes), nil
}

// GetUint64 implements raft.StableStore, with the same error as Get.
func (g *Group) GetUint64(key []byte) (uint64, error) {
	b, err := g.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("value of %q in group %d has %d bytes, not 8", key, g.id, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// SetUint64 implements raft.StableStore: Set with eight bytes, big endian.
func (g *Group) SetUint64(key []byte, v uint64) error {
	return g.Set(key, binary.BigEndian.AppendUint64(nil, v))
}

// Set implements raft.StableStore. The value is durable when it returns nil,
// except for LastVoteTerm, which is only remembered: setting LastVoteCand writes
// both in one record. Setting what is set already writes nothing. Key and value
// are copied.
func (g *Group) Set(key, val []byte) error {
	if len(key) == 0 || len(key) > maxKey || len(val) > maxValue {
		return fmt.Errorf("set a value in group %d: key of %d bytes, value of %d", g.id, len(key), len(val))
	}
	g.values.Lock()
	defer g.values.Unlock()
	switch string(key) {
	case keyVoteTerm:
		if len(val) != 8 {
			return fmt.Errorf("set %s in group %d: %d bytes are no term", key, g.id, len(val))
		}
		g.pending, g.hasPending = binary.BigEndian.Uint64(val), true
		g.log.mu.Lock()
		defer g.log.mu.Unlock()
		return g.log.usableLocked()
	case keyVoteCandidate:
		return g.setVote(val)
	}
	l := g.log
	l.mu.Lock()
	old, ok := g.stable[string(key)]
	err := l.usableLocked()
	l.mu.Unlock()
	if err != nil || ok && bytes.Equal(old.bytes, val) {
		return err
	}
	if err := g.writeValue(frameHeader{kind: KindStable}, bytes.Clone(key), bytes.Clone(val)); err != nil {
		return fmt.Errorf("set %q in group %d: %w", key, g.id, err)
	}
	return nil
}

// setVote writes the remembered term, or else the one of the last vote, with a
// candidate.
func (g *Group) setVote(candidate []byte) error {
	if len(candidate) > maxCandidate {
		return fmt.Errorf("set the vote of group %d: candidate of %d bytes", g.id, len(candidate))
	}
	l := g.log
	l.mu.Lock()
	term := g.term
	if g.hasPending {
		term = g.pending
	}
	same := g.vote.size > 0 && term == g.term && bytes.Equal(g.vote.bytes, candidate)
	err := l.usableLocked()
	l.mu.Unlock()
	g.hasPending = false
	if err != nil || same {
		return err
	}
	if err := g.writeValue(frameHeader{kind: KindVote, term: term}, bytes.Clone(candidate), nil); err != nil {
		return fmt.Errorf("set the vote of group %d: %w", g.id, err)
	}
	return nil
}

func (g *Group) writeValue(h frameHeader, data, extensions []byte) error {
	r := newRequest(g, opValue)
	r.add(h, data, extensions)
	if r.size > g.log.opts.maxRequest() {
		defer r.recycle()
		return fmt.Errorf("%d bytes do not fit a log file of %d", r.size, g.log.opts.FileSize)
	}
	return g.log.do(r)
}

// setLocked takes over a stable or vote frame and returns the place of the value
// that it replaces.
func (g *Group) setLocked(kind Kind, term uint64, data, extensions []byte, p place) (old place) {
	if kind == KindVote {
		old = g.vote.place
		g.vote, g.term = value{place: p, bytes: data}, term
		return old
	}
	if g.stable == nil {
		g.stable = make(map[string]value)
	}
	old = g.stable[string(data)].place
	g.stable[string(data)] = value{place: p, bytes: extensions}
	return old
}
