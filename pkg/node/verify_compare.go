package node

import (
	"cmp"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/seglog"
)

// compared is a replica and what it has said of a range.
type compared struct {
	replica cluster.Replica
	digest  seglog.Digest
}

// agree says whether all digests are equal and free of damage.
func agree(all []compared) bool {
	for _, c := range all {
		a, b := c.digest, all[0].digest
		if len(a.Damage) > 0 || a.First != b.First || a.Next != b.Next || a.Batches != b.Batches || a.Bytes != b.Bytes || a.CRC != b.CRC {
			return false
		}
	}
	return true
}

// differences compares replicas batch by batch. A batch that only some have, or
// that is not the same, is a difference; copies that lie in damage are damaged.
// Which of the other copies are what was written, it can't say: they count as
// intact. Neighbours that differ in the same way are one difference.
func differences(all []compared) (found []Difference) {
	offsets := make(map[int64]int64) // first → last offset of batches, and of damage
	for _, c := range all {
		for _, b := range c.digest.List {
			offsets[b.Offset] = max(offsets[b.Offset], b.Last)
		}
	}
	for _, c := range all {
		for _, d := range c.digest.Damage {
			if !d.Whole && !covered(offsets, d) {
				offsets[d.Offset] = max(offsets[d.Offset], d.Until-1)
			}
		}
	}
	first := make([]int64, 0, len(offsets))
	for offset := range offsets {
		first = append(first, offset)
	}
	slices.Sort(first)
	for _, offset := range first {
		d := Difference{Offset: offset, Last: offsets[offset]}
		for _, c := range all {
			d.Copies = append(d.Copies, copyAt(c, offset))
		}
		if d.classify(); d.Kind != "" {
			found = append(found, d)
		}
	}
	return merge(found)
}

// classify sets the kind from the copies: damage if those that are not damaged
// agree, divergence if they don't, nothing if all are well.
func (d *Difference) classify() {
	var first *Copy // that is not damaged
	damaged, agree := false, true
	for i := range d.Copies {
		c := &d.Copies[i]
		switch {
		case c.State == CopyDamaged:
			damaged = true
		case first == nil:
			first = c
		default:
			agree = agree && c.State == first.State && c.CRC == first.CRC && c.Bytes == first.Bytes
		}
	}
	switch {
	case !agree:
		d.Kind = KindDivergence
	case damaged:
		d.Kind = KindDamage
	default:
		d.Kind = ""
	}
}

// covered says whether batches of other replicas tell of the damaged range.
func covered(offsets map[int64]int64, d seglog.Damage) bool {
	for first := range offsets {
		if first >= d.Offset && first < d.Until {
			return true
		}
	}
	return false
}

func copyAt(c compared, offset int64) Copy {
	at := Copy{Node: c.replica.Node, Replica: c.replica.ID, State: CopyMissing}
	i, ok := slices.BinarySearchFunc(c.digest.List, offset, func(b seglog.BatchDigest, o int64) int { return cmp.Compare(b.Offset, o) })
	if ok {
		b := c.digest.List[i]
		at.State, at.Bytes, at.CRC, at.Epoch, at.Segment, at.File, at.Pos = CopyIntact, b.Bytes, b.CRC, b.Epoch, b.Segment, b.File, b.Pos
		return at
	}
	for _, d := range c.digest.Damage {
		if !d.Whole && d.Offset <= offset && offset < d.Until {
			at.State, at.Segment, at.File, at.Pos, at.Reason = CopyDamaged, d.Segment, d.File, d.Pos, d.Reason
			return at
		}
	}
	if i > 0 { // where it should be: behind the one before
		b := c.digest.List[i-1]
		at.Segment, at.File, at.Pos = b.Segment, b.File, b.Pos+b.Bytes
	}
	return at
}

// merge makes one of neighbours whose damaged copies lie in the same damage.
func merge(found []Difference) (merged []Difference) {
	for _, d := range found {
		if n := len(merged); n > 0 && sameDamage(merged[n-1], d) {
			merged[n-1].Last = max(merged[n-1].Last, d.Last)
			continue
		}
		merged = append(merged, d)
	}
	return merged
}

func sameDamage(a, b Difference) bool {
	if a.Kind != KindDamage || b.Kind != KindDamage {
		return false
	}
	for i := range a.Copies {
		x, y := a.Copies[i], b.Copies[i]
		if x.State != y.State || x.State == CopyMissing || x.State == CopyDamaged && (x.File != y.File || x.Pos != y.Pos) {
			return false
		}
	}
	return true
}

// wholeDamage is damage of which only the checksum of a segment tells.
func wholeDamage(c compared, d seglog.Damage) Difference {
	return Difference{Kind: KindDamage, Offset: d.Offset, Last: d.Until - 1, Copies: []Copy{{
		Node: c.replica.Node, Replica: c.replica.ID, State: CopyDamaged,
		Segment: d.Segment, File: d.File, Pos: d.Pos, Reason: d.Reason,
	}}}
}
