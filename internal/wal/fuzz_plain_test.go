package wal

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// plain is a group as DESIGN.md describes it.
type plain struct {
	first  uint64
	logs   []raft.Log
	sizes  map[uint64]int      // of the entries' frames
	loose  map[uint64]raft.Log // entries that were moved, whose originals are in files that are gone
	stable map[string]string
	vote   string
}

func newPlain() *plain {
	return &plain{stable: map[string]string{}, sizes: map[uint64]int{}, loose: map[uint64]raft.Log{}}
}

// join puts moved entries before those that were not. It is false if there is a gap.
func (p *plain) join() bool {
	if len(p.loose) == 0 {
		return true
	}
	indexes := slices.Sorted(maps.Keys(p.loose))
	var logs []raft.Log
	for i, index := range indexes {
		if index != indexes[0]+uint64(i) {
			return false
		}
		logs = append(logs, p.loose[index])
	}
	if len(p.logs) > 0 && p.first != indexes[0]+uint64(len(indexes)) {
		return false
	}
	p.first, p.logs = indexes[0], append(logs, p.logs...)
	return true
}

// plainly reads sealed bytes. whole is false when anything is wrong in them
// that Open may or must refuse, and may also leave out as a torn tail.
func plainly(data []byte) (groups map[uint64]*plain, whole bool) {
	groups = make(map[uint64]*plain)
	whole = applyAll(groups, data)
	for _, p := range groups {
		whole = p.join() && whole
	}
	return groups, whole
}

func applyAll(groups map[uint64]*plain, data []byte) (whole bool) {
	for off := 0; ; {
		rest := data[off:]
		if len(rest) < batchHead || le.Uint32(rest) != batchMagic {
			return true // clean: no later batch can have been sealed
		}
		length, count := int64(le.Uint32(rest[8:])), le.Uint32(rest[12:])
		if length < batchHead || length > int64(len(rest)) {
			return false
		}
		frames, ok := split(rest[batchHead:length], count)
		if !ok {
			return false
		}
		for _, f := range frames {
			id := le.Uint64(f[24:])
			if groups[id] == nil {
				groups[id] = newPlain()
			}
			if !groups[id].apply(f) {
				return false
			}
		}
		off += int(length)
	}
}

func split(b []byte, count uint32) (frames [][]byte, ok bool) {
	for ; count > 0; count-- {
		if len(b) < frameHead {
			return nil, false
		}
		n := frameHead + int64(le.Uint32(b[8:]))
		if n > int64(len(b)) || le.Uint32(b[12:]) > le.Uint32(b[8:]) {
			return nil, false
		}
		frames = append(frames, b[:n])
		b = b[n:]
	}
	return frames, len(b) == 0
}

func (p *plain) apply(f []byte) bool {
	index, term := le.Uint64(f[32:]), le.Uint64(f[40:])
	data := f[frameHead : len(f)-int(le.Uint32(f[12:]))]
	ext := f[len(f)-int(le.Uint32(f[12:])):]
	last := p.first + uint64(len(p.logs)) - 1
	entry := raft.Log{Index: index, Term: term, Type: raft.LogType(f[5]), Data: data, Extensions: ext,
		AppendedAt: time.Unix(int64(le.Uint64(f[48:])), int64(le.Uint32(f[20:])))}
	switch Kind(f[4]) {
	case KindEntry:
		if index == 0 || len(p.logs) > 0 && index != last+1 {
			return false
		}
		if len(p.logs) == 0 {
			p.first = index
		}
		p.logs = append(p.logs, entry)
		p.sizes[index] = len(f)
	case KindMoved:
		if len(p.logs) == 0 || index < p.first || index > last {
			p.loose[index] = entry
		} else if old := &p.logs[index-p.first]; old.Term != term || p.sizes[index] != len(f) {
			return false
		} else {
			*old = entry
		}
	case KindTruncate:
		maps.DeleteFunc(p.loose, func(i uint64, _ raft.Log) bool { return i >= index })
		for len(p.logs) > 0 && p.logs[len(p.logs)-1].Index >= index {
			p.logs = p.logs[:len(p.logs)-1]
		}
	case KindRelease:
		maps.DeleteFunc(p.loose, func(i uint64, _ raft.Log) bool { return i <= index })
		for len(p.logs) > 0 && p.logs[0].Index <= index {
			p.logs = p.logs[1:]
			p.first++
		}
	case KindStable:
		p.stable[string(data)] = string(ext)
	case KindVote:
		p.vote = fmt.Sprint(term, " ", string(data))
	case KindDrop:
		*p = *newPlain()
	case KindRewrite:
		p.logs, p.loose = nil, map[uint64]raft.Log{}
	default:
		return false
	}
	return true
}

func (p *plain) compare(g *Group) error {
	first, _ := g.FirstIndex()
	last, _ := g.LastIndex()
	if n := uint64(len(p.logs)); n == 0 && last != 0 || n > 0 && (first != p.first || last != p.first+n-1) {
		return fmt.Errorf("entries %d to %d, want %d from %d on", first, last, n, p.first)
	}
	for i := range p.logs {
		var got raft.Log
		if err := g.GetLog(p.logs[i].Index, &got); err != nil {
			return err
		}
		if !sameEntry(&got, &p.logs[i]) {
			return fmt.Errorf("entry %d is %+v, want %+v", p.logs[i].Index, got, p.logs[i])
		}
	}
	for key, want := range p.stable {
		if key == keyVoteTerm || key == keyVoteCandidate {
			continue // the vote has a record of its own
		}
		if got, err := g.Get([]byte(key)); err != nil || string(got) != want {
			return fmt.Errorf("value of %q is %q (%v), want %q", key, got, err, want)
		}
	}
	vote := ""
	if cand, err := g.Get([]byte(keyVoteCandidate)); err == nil {
		term, err := g.GetUint64([]byte(keyVoteTerm))
		if err != nil {
			return err
		}
		vote = fmt.Sprint(term, " ", string(cand))
	}
	if vote != p.vote {
		return fmt.Errorf("vote %q, want %q", vote, p.vote)
	}
	return nil
}
