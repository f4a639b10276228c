package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/raftsman/raftsman/internal/vfs"
)

// Codecs are the names of a batch's Codec.
var Codecs = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// inspectBytes bounds one batch: what is larger is taken for damage. Producers
// can't make such: max.message.bytes is 64 MiB at most.
const inspectBytes = 80 << 20

// SegmentReport is what InspectSegment found.
type SegmentReport struct {
	File         string
	Size         int64
	Base         int64 // by the file's name; -1 if that is none of a segment
	Generation   int64 // by the file's name; see SegmentInfo
	Batches      int
	Records      int64
	LastOffset   int64 // -1 when there is no batch
	MaxTimestamp int64
	CRC          uint32 // of the whole file, as manifests have it
	Index        string // "ok", "none", or what is wrong with it; it is rebuilt when needed
	IndexEntries int
	Damaged      int
	Torn         string // what is wrong at TornAt, where the batches of an active segment end
	TornAt       int64
}

// SegmentVisitor gets what InspectSegment finds, in order. An error ends the reading.
type SegmentVisitor struct {
	// Batch gets a batch that checks, and its place in the file. It is valid
	// during the call.
	Batch  func(pos int64, b Batch) error
	Damage func(*DamageError) error
}

// IsSegment says whether a file's name is that of a segment.
func IsSegment(name string) bool {
	_, index, ok := parseName(filepath.Base(name))
	return ok && !index
}

// InspectSegment reads a segment file without changing it, and whatever its
// state: behind damage it goes on at the next batch that checks. It also checks
// the segment's index, if there is one.
func InspectSegment(fsys vfs.FS, name string, v SegmentVisitor) (report SegmentReport, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return report, err
	}
	defer f.Close()
	in := inspector{f: f, v: v, report: SegmentReport{File: name, Base: -1, LastOffset: -1, MaxTimestamp: -1}, epoch: minEpoch}
	if in.report.Size, err = f.Size(); err != nil {
		return in.report, err
	}
	if key, index, ok := parseName(filepath.Base(name)); ok && !index {
		in.report.Base, in.report.Generation, in.next = key.base, key.generation, key.base
	}
	_, err = fsys.Stat(indexOf(name))
	if in.active = errors.Is(err, fs.ErrNotExist); err != nil && !in.active {
		return in.report, err
	}
	err = in.run()
	if err == nil {
		err = in.index(fsys)
	}
	return in.report, err
}

func indexOf(segment string) string {
	return strings.TrimSuffix(segment, logSuffix) + indexSuffix
}

type inspector struct {
	f      vfs.File
	active bool // has no index: it may end in a write that a crash has cut
	v      SegmentVisitor
	report SegmentReport
	buf    []byte
	next   int64 // least offset that the next batch may begin at
	epoch  int32
	crc    uint32
	summed int64 // bytes in crc
}

func (in *inspector) run() error {
	for pos := int64(0); pos < in.report.Size; {
		b, reason, err := in.batch(pos)
		if err != nil {
			return err
		}
		if reason != "" {
			next, err := in.resync(pos + 1)
			if err != nil {
				return err
			}
			if next == in.report.Size && in.active {
				in.report.Torn, in.report.TornAt = reason, pos
				break
			}
			in.report.Damaged++
			if next < in.report.Size {
				reason = fmt.Sprintf("%s; goes on at byte %d", reason, next)
			}
			if err := in.v.Damage(&DamageError{File: in.f.Name(), Offset: pos, Reason: reason}); err != nil {
				return err
			}
			pos = next
			continue
		}
		in.report.Batches++
		in.report.Records += int64(b.NumRecords())
		in.report.LastOffset = b.LastOffset()
		in.report.MaxTimestamp = max(in.report.MaxTimestamp, b.maxTime())
		in.next, in.epoch = b.LastOffset()+1, b.LeaderEpoch()
		if err := in.v.Batch(pos, b); err != nil {
			return err
		}
		pos += int64(len(b))
	}
	return in.sum()
}

// batch reads and checks the batch at pos; reason says what is wrong with it.
func (in *inspector) batch(pos int64) (b Batch, reason string, err error) {
	left := in.report.Size - pos
	if left < BatchHeaderLen {
		return nil, fmt.Sprintf("%d bytes are too short for a batch", left), nil
	}
	if err := in.read(pos, BatchHeaderLen); err != nil {
		return nil, "", err
	}
	h := Batch(in.buf)
	if reason := in.implausible(h, left); reason != "" {
		return nil, reason, nil
	}
	if err := in.read(pos, h.Size()); err != nil {
		return nil, "", err
	}
	b = Batch(in.buf)
	if err := b.ValidateStored(); err != nil {
		return nil, err.Error(), nil
	}
	reason, err = in.outOfLine(pos+b.Size(), b)
	return b, reason, err
}

// outOfLine says whether a batch has an offset or epoch, which its own checksum
// does not cover, that the batch behind it contradicts. Of two that contradict
// each other the one is wrong that leaves a gap of offsets, or that the third
// contradicts, too; where nothing decides, as at the end of the file, the first.
func (in *inspector) outOfLine(behind int64, b Batch) (reason string, err error) {
	if b.BaseOffset() == in.next && b.LeaderEpoch() == in.epoch {
		return "", nil
	}
	second, err := in.header(behind)
	if err != nil || second == nil || in.implausible(second, in.report.Size-behind) != "" {
		return "", err
	}
	switch {
	case second.BaseOffset() <= b.LastOffset():
		if b.BaseOffset() == in.next {
			return "", nil
		}
	case second.LeaderEpoch() < b.LeaderEpoch():
		third, err := in.header(behind + second.Size())
		if err != nil || third != nil && third.Magic() == 2 && third.LeaderEpoch() >= b.LeaderEpoch() {
			return "", err
		}
	default:
		return "", nil
	}
	return fmt.Sprintf("batch of offsets %d to %d in leader epoch %d, but the one behind it begins at offset %d in epoch %d",
		b.BaseOffset(), b.LastOffset(), b.LeaderEpoch(), second.BaseOffset(), second.LeaderEpoch()), nil
}

// header reads the header of the batch at pos; nil where the file ends before it
// does.
func (in *inspector) header(pos int64) (Batch, error) {
	if in.report.Size-pos < BatchHeaderLen {
		return nil, nil
	}
	h := make(Batch, BatchHeaderLen)
	if n, err := in.f.ReadAt(h, pos); n < len(h) {
		return nil, fmt.Errorf("read %s at byte %d: %w", in.f.Name(), pos, err)
	}
	return h, nil
}

// implausible says why a header can't be that of the next batch.
func (in *inspector) implausible(h Batch, left int64) string {
	size := h.Size()
	switch {
	case h.Magic() != 2:
		return fmt.Sprintf("magic %d where a batch should begin", h.Magic())
	case size < BatchHeaderLen || size > inspectBytes:
		return fmt.Sprintf("length %d of the batch is impossible", h.Length())
	case size > left:
		return fmt.Sprintf("batch of %d bytes, the file ends after %d", size, left)
	case h.BaseOffset() < in.next || h.LastOffsetDelta() < 0 || h.LastOffset() < h.BaseOffset():
		return fmt.Sprintf("batch of offsets %d to %d, expected %d or more", h.BaseOffset(), h.LastOffset(), in.next)
	case h.LeaderEpoch() < in.epoch:
		return fmt.Sprintf("leader epoch %d after %d", h.LeaderEpoch(), in.epoch)
	}
	return ""
}

// resync finds the next batch that checks, from pos on; the file's end if there
// is none.
func (in *inspector) resync(pos int64) (int64, error) {
	window := make([]byte, scanBytes)
	for ; in.report.Size-pos >= BatchHeaderLen; pos += scanBytes - BatchHeaderLen + 1 {
		p := window[:min(int64(len(window)), in.report.Size-pos)]
		if n, err := in.f.ReadAt(p, pos); n < len(p) {
			return 0, fmt.Errorf("read %s at byte %d: %w", in.f.Name(), pos, err)
		}
		for i := 0; i+BatchHeaderLen <= len(p); i++ {
			h := Batch(p[i : i+BatchHeaderLen])
			at := pos + int64(i)
			if h.Magic() != 2 || in.implausible(h, in.report.Size-at) != "" {
				continue
			}
			_, reason, err := in.batch(at)
			if err != nil {
				return 0, err
			}
			if reason == "" {
				return at, nil
			}
		}
	}
	return in.report.Size, nil
}

func (in *inspector) read(pos, n int64) error {
	if int64(cap(in.buf)) < n {
		in.buf = make([]byte, n)
	}
	in.buf = in.buf[:n]
	if m, err := in.f.ReadAt(in.buf, pos); int64(m) < n {
		return fmt.Errorf("read %s at byte %d: %w", in.f.Name(), pos, err)
	}
	return nil
}

// sum computes the CRC of the whole file.
func (in *inspector) sum() error {
	for in.summed < in.report.Size {
		n := min(scanBytes, in.report.Size-in.summed)
		if err := in.read(in.summed, n); err != nil {
			return err
		}
		in.crc = crc32.Update(in.crc, castagnoli, in.buf)
		in.summed += n
	}
	in.report.CRC = in.crc
	return nil
}

// index checks the segment's index, which is derived: what is wrong with it is
// no damage.
func (in *inspector) index(fsys vfs.FS) error {
	r := &in.report
	if in.active {
		r.Index = "none"
		return nil
	}
	name := indexOf(r.File)
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	if size > indexHeaderLen+indexEntryLen*(r.Size/BatchHeaderLen+1) {
		r.Index = fmt.Sprintf("%d bytes are too many", size)
		return nil
	}
	p := make([]byte, size)
	if n, err := f.ReadAt(p, 0); n < len(p) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	info := SegmentInfo{Base: r.Base, Bytes: r.Size, CRC: r.CRC, MaxTimestamp: r.MaxTimestamp, LastOffset: r.LastOffset}
	entries, err := decodeIndex(p, info)
	if err != nil {
		r.Index = err.Error()
		return nil
	}
	r.IndexEntries, r.Index = len(entries), "ok"
	if r.Damaged > 0 {
		return nil
	}
	want, _, err := scanFile(in.f, r.File, info, int64(binary.LittleEndian.Uint32(p[28:])))
	if err != nil {
		return err
	}
	for i, e := range entries {
		if i >= len(want) || e != want[i] {
			r.Index = fmt.Sprintf("entry %d is not that of the segment", i)
			return nil
		}
	}
	if len(want) != len(entries) {
		r.Index = fmt.Sprintf("%d entries, the segment has %d", len(entries), len(want))
	}
	return nil
}
