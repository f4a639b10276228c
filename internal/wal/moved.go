package wal

import (
	"fmt"
	"maps"
	"slices"
)

// replayMoved takes an entry that was copied forward. The file with its original
// may be gone: then what the scan has seen of the group so far is not all of it,
// and the entry waits in loose until the scan is through.
func (g *Group) replayMoved(index, term uint64, p place) (reason string) {
	s := slot{seq: p.seq, off: p.off, size: p.size, term: term}
	if len(g.slots) > 0 && index >= g.first && index <= g.lastLocked() {
		old := &g.slots[index-g.first]
		if old.term != term || old.size != p.size {
			return fmt.Sprintf("copy of entry %d of group %d has term %d and %d bytes, the entry has term %d and %d",
				index, g.id, term, p.size, old.term, old.size)
		}
		s.before = old.before
		*old = s
		g.scattered = true
		return ""
	}
	if g.loose == nil {
		g.loose = make(map[uint64]slot)
	}
	g.loose[index] = s
	return ""
}

// joinLoose puts moved entries before those that were never moved. Together they
// have no gap, or something is missing.
func (l *Log) joinLoose() error {
	for _, g := range l.groups {
		if len(g.loose) == 0 {
			g.loose = nil
			continue
		}
		indexes := slices.Sorted(maps.Keys(g.loose))
		all := make([]slot, 0, len(indexes)+len(g.slots))
		for i, index := range indexes {
			if index != indexes[0]+uint64(i) {
				return l.missing(g, index)
			}
			all = append(all, g.loose[index])
		}
		if len(g.slots) > 0 && g.first != indexes[0]+uint64(len(indexes)) {
			return l.missing(g, g.first)
		}
		g.first, g.slots, g.loose, g.scattered = indexes[0], append(all, g.slots...), nil, true
		g.bytes = 0
		for i := range g.slots {
			g.slots[i].before = g.bytes
			g.bytes += uint64(g.slots[i].size)
		}
	}
	return nil
}

func (l *Log) missing(g *Group, index uint64) error {
	return &DamageError{File: l.opts.Dir, Reason: fmt.Sprintf("group %d has entry %d, but not the one before it", g.id, index)}
}
