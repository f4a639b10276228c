package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"sort"
)

// indexEntry says where a batch begins, and what time it is before it.
type indexEntry struct {
	rel    uint32 // base offset of the batch - base of the segment
	pos    uint32 // of the batch in the file
	before int64  // greatest timestamp of all batches before pos
}

const (
	indexMagic      = "RSIX"
	indexVersion    = 1
	indexHeaderLen  = 40
	indexEntryLen   = 16
	indexCRCPos     = 36
	indexEntriesPos = 32
)

var errBadIndex = errors.New("bad index")

// indexLocked notes a batch that is appended at pos.
func (s *segment) indexLocked(pos, offset, interval int64) {
	s.entries = addEntry(s.entries, s.base, offset, pos, s.maxTime, interval)
}

func addEntry(entries []indexEntry, base, offset, pos, before, interval int64) []indexEntry {
	if n := len(entries); n > 0 && pos-int64(entries[n-1].pos) < interval {
		return entries
	}
	if len(entries) == 0 {
		before = math.MinInt64
	}
	return append(entries, indexEntry{rel: uint32(offset - base), pos: uint32(pos), before: before})
}

// byOffset returns the last entry at or below offset.
func byOffset(entries []indexEntry, base, offset int64) indexEntry {
	n := sort.Search(len(entries), func(i int) bool { return base+int64(entries[i].rel) > offset })
	return entries[max(n-1, 0)]
}

// byTime returns the last entry before which all timestamps are below ts.
func byTime(entries []indexEntry, ts int64) indexEntry {
	n := sort.Search(len(entries), func(i int) bool { return entries[i].before >= ts })
	return entries[max(n-1, 0)]
}

func encodeIndex(info SegmentInfo, interval int64, entries []indexEntry) []byte {
	p := make([]byte, indexHeaderLen, indexHeaderLen+len(entries)*indexEntryLen)
	le := binary.LittleEndian
	copy(p, indexMagic)
	le.PutUint32(p[4:], indexVersion)
	le.PutUint64(p[8:], uint64(info.Base))
	le.PutUint64(p[16:], uint64(info.Bytes))
	le.PutUint32(p[24:], info.CRC)
	le.PutUint32(p[28:], uint32(interval))
	le.PutUint32(p[indexEntriesPos:], uint32(len(entries)))
	for _, e := range entries {
		p = le.AppendUint32(p, e.rel)
		p = le.AppendUint32(p, e.pos)
		p = le.AppendUint64(p, uint64(e.before))
	}
	le.PutUint32(p[indexCRCPos:], indexCRC(p))
	return p
}

func indexCRC(p []byte) uint32 {
	return crc32.Update(crc32.Checksum(p[:indexCRCPos], castagnoli), castagnoli, p[indexHeaderLen:])
}

// decodeIndex returns the entries of an index that was made for exactly that
// segment, or errBadIndex.
func decodeIndex(p []byte, info SegmentInfo) ([]indexEntry, error) {
	le := binary.LittleEndian
	if len(p) < indexHeaderLen+indexEntryLen || string(p[:4]) != indexMagic || le.Uint32(p[4:]) != indexVersion {
		return nil, fmt.Errorf("%w: no header", errBadIndex)
	}
	if le.Uint32(p[indexCRCPos:]) != indexCRC(p) {
		return nil, fmt.Errorf("%w: crc", errBadIndex)
	}
	n := int64(le.Uint32(p[indexEntriesPos:]))
	if int64(le.Uint64(p[8:])) != info.Base || int64(le.Uint64(p[16:])) != info.Bytes || le.Uint32(p[24:]) != info.CRC {
		return nil, fmt.Errorf("%w: made for another segment", errBadIndex)
	}
	if int64(len(p)) != indexHeaderLen+n*indexEntryLen {
		return nil, fmt.Errorf("%w: %d entries in %d bytes", errBadIndex, n, len(p))
	}
	entries := make([]indexEntry, n)
	for i := range entries {
		q := p[indexHeaderLen+i*indexEntryLen:]
		entries[i] = indexEntry{rel: le.Uint32(q), pos: le.Uint32(q[4:]), before: int64(le.Uint64(q[8:]))}
	}
	return entries, checkEntries(entries, info)
}

func checkEntries(entries []indexEntry, info SegmentInfo) error {
	for i, e := range entries {
		ok := int64(e.pos)+BatchHeaderLen <= info.Bytes && int64(e.rel) <= info.LastOffset-info.Base
		if i == 0 {
			ok = ok && e.pos == 0
		} else {
			prev := entries[i-1]
			ok = ok && e.pos > prev.pos && e.rel > prev.rel && e.before >= prev.before
		}
		if !ok {
			return fmt.Errorf("%w: entry %d", errBadIndex, i)
		}
	}
	return nil
}

// storeIndex writes the index of a sealed segment and caches it. It does not
// matter much when that fails: it is made again from the segment.
func (l *Log) storeIndex(s *segment, info SegmentInfo, entries []indexEntry) {
	l.w.indexes.remove(s)
	l.w.indexes.add(s, entries, int64(len(entries))*indexEntryLen+indexHeaderLen)
	err := l.fs.Remove(s.indexPath())
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = l.writeIndex(s, encodeIndex(info, l.interval, entries))
	}
	if err != nil {
		l.logger.Warn("segment index not written, it will be rebuilt when needed", "dir", l.dir, "base", s.base, "err", err)
	}
}

func (l *Log) writeIndex(s *segment, p []byte) error {
	f, err := l.fs.Create(s.indexPath())
	if err != nil {
		return err
	}
	_, err = f.WriteAt(p, 0)
	return errors.Join(err, f.Close())
}

// index returns the entries of x, from memory, its file, or the segment.
func (l *Log) index(x extent) ([]indexEntry, error) {
	if x.entries != nil {
		return x.entries, nil
	}
	if entries, ok := l.w.indexes.get(x.seg); ok {
		return entries, nil
	}
	l.indexMu.Lock()
	defer l.indexMu.Unlock()
	if entries, ok := l.w.indexes.get(x.seg); ok {
		return entries, nil
	}
	l.mu.Lock()
	info, entries := x.seg.infoLocked(), x.seg.entries
	l.mu.Unlock()
	if entries != nil {
		return entries, nil
	}
	entries, err := l.loadIndex(x.seg, info)
	if err == nil {
		l.w.indexes.add(x.seg, entries, int64(len(entries))*indexEntryLen+indexHeaderLen)
		return entries, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		l.logger.Warn("rebuilding a segment index", "dir", l.dir, "base", info.Base, "err", err)
	}
	h, err := x.seg.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, x.seg.damage(0, "the file is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("rebuild index of segment %d in %s: %w", info.Base, l.dir, err)
	}
	defer h.release()
	entries, _, err = scanFile(h, x.seg.name, info, l.interval)
	if err != nil {
		return nil, err
	}
	l.storeIndex(x.seg, info, entries)
	return entries, nil
}

func (l *Log) loadIndex(s *segment, info SegmentInfo) ([]indexEntry, error) {
	f, err := l.fs.Open(s.indexPath())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > indexHeaderLen+indexEntryLen*(info.Bytes/BatchHeaderLen+1) {
		return nil, fmt.Errorf("%w: %d bytes", errBadIndex, size)
	}
	p := make([]byte, size)
	if n, err := f.ReadAt(p, 0); n < len(p) {
		return nil, err
	}
	return decodeIndex(p, info)
}
