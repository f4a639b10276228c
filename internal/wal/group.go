package wal

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/hashicorp/raft"
)

// Group is one raft group's part of the log: its raft.LogStore,
// raft.StableStore and raft.MonotonicLogStore. It is safe for concurrent use.
type Group struct {
	paced uint64 // window in which it was last counted; belongs to the committer

	id  uint64
	log *Log

	// write serializes what changes the end of the entries, values what
	// changes stable values; both are held across the wait for the disk.
	write  sync.Mutex
	values sync.Mutex

	// The rest is guarded by log.mu.
	first uint64 // index of slots[0]
	// scattered says that slots may not be in the order of their files.
	scattered bool
	// loose are moved entries that the scan of the log has met before it knew
	// that they follow one another; nil but during recovery.
	loose  map[uint64]slot
	slots  []slot // consecutive entries
	bytes  uint64 // of all entries ever; slots count from it
	recent []*cached
	stable map[string]value
	vote   value  // of the candidate
	term   uint64 // of the vote
	queued int    // removals that are not durable yet
	pass   bool   // a truncation went through: the next append may use the reserve

	// The term of a vote whose candidate is still to come; guarded by values.
	pending    uint64
	hasPending bool
}

var (
	_ raft.LogStore          = (*Group)(nil)
	_ raft.StableStore       = (*Group)(nil)
	_ raft.MonotonicLogStore = (*Group)(nil)
)

// slot says where an entry is.
type slot struct {
	seq    uint64 // of its file
	term   uint64
	before uint64 // bytes of all earlier entries
	off    uint32
	size   uint32 // of its frame
}

// place is what a frame keeps live in a file.
type place struct {
	seq  uint64
	off  uint32
	size uint32
}

// value is a stable value or a vote's candidate.
type value struct {
	place // size 0: there is none
	bytes []byte
}

// IsMonotonic implements raft.MonotonicLogStore: indexes have no gaps.
func (g *Group) IsMonotonic() bool { return true }

// lastLocked is the index of the last entry, or 0.
func (g *Group) lastLocked() uint64 {
	if len(g.slots) == 0 {
		return 0
	}
	return g.first + uint64(len(g.slots)) - 1
}

// FirstIndex implements raft.LogStore: 0 when there are no entries.
func (g *Group) FirstIndex() (uint64, error) {
	l := g.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, ErrClosed
	}
	if len(g.slots) == 0 {
		return 0, nil
	}
	return g.first, nil
}

// LastIndex implements raft.LogStore: 0 when there are no entries.
func (g *Group) LastIndex() (uint64, error) {
	l := g.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, ErrClosed
	}
	return g.lastLocked(), nil
}

// Size returns the number of entries and the bytes that their frames take.
func (g *Group) Size() (entries uint64, bytes int64) {
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	return uint64(len(g.slots)), g.liveLocked()
}

func (g *Group) liveLocked() int64 {
	if len(g.slots) == 0 {
		return 0
	}
	return int64(g.bytes - g.slots[0].before)
}

// BytesFrom returns the bytes that the frames of entries at and above index take.
func (g *Group) BytesFrom(index uint64) int64 {
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	switch {
	case len(g.slots) == 0 || index > g.lastLocked():
		return 0
	case index <= g.first:
		return g.liveLocked()
	}
	return int64(g.bytes - g.slots[index-g.first].before)
}

// GetLog implements raft.LogStore. A missing entry is raft.ErrLogNotFound, one
// that does not check on disk a *DamageError. The entry's slices are shared and
// must not be changed.
func (g *Group) GetLog(index uint64, log *raft.Log) error {
	l := g.log
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	if len(g.slots) == 0 || index < g.first || index > g.lastLocked() {
		l.mu.Unlock()
		return raft.ErrLogNotFound
	}
	i := int(index - g.first)
	s := g.slots[i]
	if j := i - (len(g.slots) - len(g.recent)); j >= 0 {
		c := g.recent[j]
		*log = raft.Log{Index: index, Term: s.term, Type: c.typ, Data: c.data, Extensions: c.ext, AppendedAt: c.at}
		l.mu.Unlock()
		return nil
	}
	f := l.fileLocked(s.seq)
	f.readers++
	l.mu.Unlock()
	frame, err := f.read(int64(s.off), int64(s.size))
	l.unpin(f)
	if err != nil {
		return fmt.Errorf("read entry %d of group %d: %w", index, g.id, err)
	}
	if frame.Kind != KindEntry && frame.Kind != KindMoved || frame.Group != g.id || frame.Index != index || frame.Term != s.term {
		return fmt.Errorf("read entry %d of group %d: %w", index, g.id,
			&DamageError{File: f.path, Offset: frame.Offset, Reason: "another frame is in its place"})
	}
	*log = raft.Log{Index: index, Term: frame.Term, Type: frame.Type, Data: frame.Data, Extensions: frame.Extensions, AppendedAt: frame.AppendedAt}
	trimEmpty(log)
	return nil
}

// trimEmpty makes an entry from memory and one from disk look the same.
func trimEmpty(log *raft.Log) {
	if len(log.Data) == 0 {
		log.Data = nil
	}
	if len(log.Extensions) == 0 {
		log.Extensions = nil
	}
	log.AppendedAt = log.AppendedAt.Round(0).UTC()
}

// StoreLog implements raft.LogStore.
func (g *Group) StoreLog(log *raft.Log) error { return g.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore. The entries must follow one another and
// the last one stored; any index may be the first in an empty group. They are
// durable when it returns nil; after an error none of them is there. An error
// that wraps syscall.ENOSPC leaves the log usable, any other failure of the disk
// is final. Data and Extensions are kept and must not be changed afterwards.
func (g *Group) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	g.write.Lock()
	defer g.write.Unlock()
	l := g.log
	l.mu.Lock()
	last := g.lastLocked()
	l.mu.Unlock()
	if err := g.checkAppend(last, logs); err != nil {
		return err
	}
	limit := l.opts.maxRequest()
	for rest := logs; len(rest) > 0; {
		n, size := 0, int64(0)
		for n < len(rest) && size+entrySize(rest[n]) <= limit {
			size += entrySize(rest[n])
			n++
		}
		if err := g.storePart(rest[:n]); err != nil {
			if len(rest) < len(logs) {
				err = errors.Join(err, g.truncate(logs[0].Index, math.MaxUint64, false))
			}
			return fmt.Errorf("append entries %d to %d of group %d: %w", logs[0].Index, logs[len(logs)-1].Index, g.id, err)
		}
		rest = rest[n:]
	}
	return nil
}

func entrySize(log *raft.Log) int64 {
	return frameHead + int64(len(log.Data)) + int64(len(log.Extensions))
}

func (g *Group) checkAppend(last uint64, logs []*raft.Log) error {
	next := logs[0].Index
	if next == 0 || last > 0 && next != last+1 {
		return fmt.Errorf("append to group %d: entry %d does not follow entry %d", g.id, next, last)
	}
	for _, log := range logs {
		if log.Index != next || next == math.MaxUint64 {
			return fmt.Errorf("append to group %d: entry %d where %d is next", g.id, log.Index, next)
		}
		if size := entrySize(log); size > g.log.opts.maxRequest() {
			return fmt.Errorf("append to group %d: entry %d of %d bytes does not fit a log file of %d", g.id, log.Index, size, g.log.opts.FileSize)
		}
		next++
	}
	return nil
}

func (g *Group) storePart(logs []*raft.Log) error {
	r := newRequest(g, opAppend)
	for _, log := range logs {
		r.add(frameHeader{
			kind: KindEntry, typ: log.Type, index: log.Index, term: log.Term, at: log.AppendedAt,
		}, log.Data, log.Extensions)
	}
	r.logs = append(r.logs, logs...)
	return g.log.do(r)
}

// DeleteRange implements raft.LogStore. A range that begins at or before the
// first entry releases a prefix; any other that ends at or behind the last entry
// truncates a conflicting suffix; one in the middle is an error. The entries are
// gone from memory at once; on disk, the removal comes before whatever the group
// writes next. A truncation fails with ENOSPC, and removes nothing, when the
// append that is bound to follow it might.
func (g *Group) DeleteRange(minIndex, maxIndex uint64) error {
	l := g.log
	l.mu.Lock()
	first, last := g.first, g.lastLocked()
	if err := l.usableLocked(); err != nil {
		l.mu.Unlock()
		return err
	}
	if last == 0 || minIndex > maxIndex || minIndex > last || maxIndex < first {
		l.mu.Unlock()
		return nil
	}
	if minIndex <= first {
		g.releaseLocked(min(maxIndex, last))
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	if maxIndex < last {
		return fmt.Errorf("remove entries %d to %d of group %d: in the middle of %d to %d", minIndex, maxIndex, g.id, first, last)
	}
	g.write.Lock()
	defer g.write.Unlock()
	if err := g.truncate(minIndex, maxIndex, true); err != nil {
		return fmt.Errorf("truncate group %d from entry %d: %w", g.id, minIndex, err)
	}
	return nil
}

// releaseLocked removes the entries up to an index and queues the record.
func (g *Group) releaseLocked(upTo uint64) {
	n := int(upTo - g.first + 1)
	r := newRequest(g, opRemove)
	r.add(frameHeader{kind: KindRelease, index: upTo}, nil, nil)
	r.unpin(g.slots[:n])
	g.log.tail.dropFirst(g, n)
	g.slots = g.slots[n:]
	g.first = upTo + 1
	g.queued++
	if len(g.slots) < n { // else the array would stay as large as it ever was
		g.slots, g.recent = slices.Clone(g.slots), slices.Clone(g.recent)
	}
	g.log.enqueueLocked(r)
}

// truncate removes the entries from an index to the last, which upTo must reach,
// and queues the record. g.write is held.
func (g *Group) truncate(from, upTo uint64, needRoom bool) error {
	l := g.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(); err != nil {
		return err
	}
	if len(g.slots) == 0 || from > g.lastLocked() {
		return nil
	}
	if upTo < g.lastLocked() {
		return fmt.Errorf("entry %d was appended meanwhile", g.lastLocked())
	}
	if needRoom {
		if err := l.roomLocked(); err != nil {
			return err
		}
		g.pass = true
	}
	from = max(from, g.first)
	r := newRequest(g, opRemove)
	r.add(frameHeader{kind: KindTruncate, index: from}, nil, nil)
	keep := int(from - g.first)
	r.unpin(g.slots[keep:])
	l.tail.dropLast(g, len(g.slots)-keep)
	g.bytes = g.slots[keep].before
	g.slots = g.slots[:keep]
	g.queued++
	l.enqueueLocked(r)
	return nil
}

// appendLocked adds an entry to the index.
func (g *Group) appendLocked(index, term uint64, p place) {
	if len(g.slots) == 0 {
		g.first, g.scattered = index, false
	}
	g.slots = append(g.slots, slot{seq: p.seq, term: term, before: g.bytes, off: p.off, size: p.size})
	g.bytes += uint64(p.size)
}

// emptyLocked says whether nothing is stored for the group.
func (g *Group) emptyLocked() bool {
	return len(g.slots) == 0 && len(g.stable) == 0 && g.vote.size == 0
}

// pinsLocked says whether entries of the group pin a file. Entries lie in files
// in the order of their indexes, until some were copied forward.
func (g *Group) pinsLocked(seq uint64) bool {
	if g.scattered {
		return slices.ContainsFunc(g.slots, func(s slot) bool { return s.seq == seq })
	}
	i := sort.Search(len(g.slots), func(i int) bool { return g.slots[i].seq >= seq })
	return i < len(g.slots) && g.slots[i].seq == seq
}
