package vfs

import (
	"math/rand/v2"
	"sort"
	"time"
)

// memNode is a *memDir or a *memInode: what a name stands for, now and after a
// crash.
type memNode interface {
	crash(r *rand.Rand, survive float64)
	size() int64
}

// memChange is one un-synced change of a directory; a nil node is a removal.
type memChange struct {
	name string
	node memNode
	more bool // the next change belongs to the same operation
}

type memDir struct {
	names   map[string]memNode // now
	durable map[string]memNode // after a crash
	pending []memChange        // what leads from durable to names
}

func newMemDir() *memDir {
	return &memDir{names: make(map[string]memNode), durable: make(map[string]memNode)}
}

func (d *memDir) change(changes ...memChange) {
	for i, c := range changes {
		c.more = i < len(changes)-1
		d.pending = append(d.pending, c)
		applyChange(d.names, c)
	}
}

func applyChange(names map[string]memNode, c memChange) {
	if c.node == nil {
		delete(names, c.name)
	} else {
		names[c.name] = c.node
	}
}

func (d *memDir) sync() {
	for _, c := range d.pending {
		applyChange(d.durable, c)
	}
	d.pending = nil
}

func (d *memDir) crash(r *rand.Rand, survive float64) {
	keep := 0
	if r != nil && len(d.pending) > 0 {
		keep = r.IntN(len(d.pending) + 1)
		for keep > 0 && d.pending[keep-1].more {
			keep--
		}
	}
	for _, c := range d.pending[:keep] {
		applyChange(d.durable, c)
	}
	d.pending = nil
	d.names = make(map[string]memNode, len(d.durable))
	sorted := make([]string, 0, len(d.durable))
	for name, n := range d.durable {
		d.names[name] = n
		sorted = append(sorted, name)
	}
	sort.Strings(sorted) // a map's order must not decide what r says
	for _, name := range sorted {
		d.names[name].crash(r, survive)
	}
}

func (d *memDir) size() (sum int64) {
	for _, n := range d.names {
		sum += n.size()
	}
	return sum
}

// memInode is a file's bytes.
type memInode struct {
	data        []byte           // now
	durableSize int64            // after a crash
	old         map[int64][]byte // durable bytes of the sectors written since the last sync
	modified    time.Time
}

func (n *memInode) size() int64 { return int64(len(n.data)) }

// touch keeps the durable bytes of the sectors of [from, to) before they change.
func (n *memInode) touch(from, to int64) {
	if n.old == nil {
		n.old = make(map[int64][]byte)
	}
	for s := from / SectorSize; s*SectorSize < to; s++ {
		if _, ok := n.old[s]; ok {
			continue
		}
		var was []byte
		if s*SectorSize < min(n.durableSize, n.size()) {
			was = append(was, n.data[s*SectorSize:min((s+1)*SectorSize, n.durableSize, n.size())]...)
		}
		n.old[s] = was
	}
}

func (n *memInode) resize(size int64) {
	have := n.size()
	if size < have {
		n.touch(size, have)
		n.data = n.data[:size]
		return
	}
	n.touch(have, size)
	if size <= int64(cap(n.data)) {
		n.data = n.data[:size]
		clear(n.data[have:])
		return
	}
	grown := make([]byte, size, max(size, 2*have))
	copy(grown, n.data)
	n.data = grown
}

func (n *memInode) sync() {
	n.durableSize = n.size()
	n.old = nil
}

func (n *memInode) crash(r *rand.Rand, survive float64) {
	now := n.data
	size := n.durableSize
	if r != nil && r.Float64() < survive {
		size = int64(len(now))
	}
	n.data = make([]byte, size)
	copy(n.data, now)
	sectors := make([]int64, 0, len(n.old))
	for s := range n.old {
		sectors = append(sectors, s)
	}
	sort.Slice(sectors, func(i, j int) bool { return sectors[i] < sectors[j] })
	for _, s := range sectors {
		if r != nil && r.Float64() < survive {
			continue // the new bytes made it
		}
		if s*SectorSize >= size {
			continue
		}
		sector := n.data[s*SectorSize : min((s+1)*SectorSize, size)]
		clear(sector)
		copy(sector, n.old[s])
	}
	n.sync()
}
