package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

// DamageError names the place of something that was durable and no longer
// checks. The log is not cut there: what follows may have been acknowledged.
type DamageError struct {
	File   string
	Offset int64 // byte in the file
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("write-ahead log file %s is damaged at byte %d: %s", e.File, e.Offset, e.Reason)
}

// Frame is a frame as it was read. Data and Extensions are valid only as long
// as whoever hands out the Frame says.
type Frame struct {
	File       string
	FileSeq    uint64
	Offset     int64 // of the frame in the file
	Batch      int64 // offset of its batch
	Size       int   // with its header
	Kind       Kind
	Group      uint64
	Index      uint64 // see DESIGN.md for what it is in each kind
	Term       uint64
	Type       raft.LogType
	AppendedAt time.Time
	Data       []byte // KindStable: the key; KindVote: the candidate
	Extensions []byte // KindStable: the value
}

// source is a log file under recovery.
type source struct {
	life
	file    vfs.File
	size    int64
	prev    link
	begun   bool
	version uint32
	end     int64 // after scan: where the next batch goes

	sum    summer
	window []byte // bytes of the file from windowAt
	at     int64
}

const (
	fileSuffix = ".wal"
	tmpSuffix  = ".tmp"
	windowSize = 1 << 20
)

func fileName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, fileSuffix) }

// openSources opens the log files of a directory, oldest first, and checks
// their headers, but not yet that they follow one another (checkChain). The caller closes them, after an error too.
func openSources(dir string, names []string, open func(string) (vfs.File, error), want *identity.Identity) ([]*source, error) {
	var set []*source
	for _, name := range names {
		hex, ok := strings.CutSuffix(name, fileSuffix)
		if !ok {
			continue
		}
		seq, err := strconv.ParseUint(hex, 16, 64)
		if err != nil || fileName(seq) != name {
			return set, fmt.Errorf("%s: not a name of a write-ahead log file", vfs.Join(dir, name))
		}
		f, err := open(vfs.Join(dir, name))
		if err != nil {
			return set, fmt.Errorf("open write-ahead log: %w", err)
		}
		s := &source{life: life{seq: seq}, file: f}
		set = append(set, s)
		if err := s.readHeader(want); err != nil {
			return set, err
		}
	}
	sort.Slice(set, func(i, j int) bool { return set[i].seq < set[j].seq })
	return set, nil
}

func (s *source) damage(off int64, reason string) error {
	return &DamageError{File: s.file.Name(), Offset: off, Reason: reason}
}

func (s *source) readHeader(want *identity.Identity) (err error) {
	if s.size, err = s.file.Size(); err != nil {
		return fmt.Errorf("open write-ahead log: %w", err)
	}
	if s.size < dataOffset {
		return s.damage(0, "too short for its header")
	}
	if s.size > maxFile {
		return s.damage(0, fmt.Sprintf("%d bytes are too many for a log file", s.size))
	}
	b, err := s.view(0, dataOffset)
	if err != nil {
		return err
	}
	l, have, reason := decodeBirth(b[:linkOffset])
	if reason != "" {
		return s.damage(0, reason)
	}
	if want != nil && have != *want {
		return &identity.MismatchError{File: s.file.Name(), Have: have, Want: *want}
	}
	if l.seq != s.seq {
		return s.damage(0, fmt.Sprintf("its header says that it is file %016x", l.seq))
	}
	s.life, s.version = l, le.Uint32(b[12:])
	s.prev, s.begun = decodeLink(l, b[linkOffset:])
	return nil
}

// checkChain checks that the files follow one another and that only the last
// are not begun.
func checkChain(set []*source) error {
	for i, s := range set {
		if i > 0 && s.seq != set[i-1].seq+1 {
			return &DamageError{File: s.file.Name(), Reason: fmt.Sprintf("file %s before it is missing", fileName(s.seq-1))}
		}
		if !s.begun {
			if i == 0 && s.seq != 1 {
				return s.damage(linkOffset, "the files before it are missing, or its link is damaged")
			}
			continue
		}
		if s.prev.seq != s.seq-1 {
			return s.damage(linkOffset, fmt.Sprintf("its link names file %016x as its predecessor", s.prev.seq))
		}
		if i == 0 {
			continue
		}
		p := set[i-1]
		if !p.begun {
			return p.damage(linkOffset, fmt.Sprintf("its link is damaged, for %s follows it", fileName(s.seq)))
		}
		if s.prev.end < dataOffset || s.prev.end > p.size {
			return p.damage(p.size, fmt.Sprintf("%s says that it ends at byte %d", fileName(s.seq), s.prev.end))
		}
		p.end = s.prev.end
	}
	return nil
}

// view returns n bytes at off, valid until the next call. The caller has
// checked that the file is long enough.
func (s *source) view(off, n int64) ([]byte, error) {
	if off >= s.at && off+n <= s.at+int64(len(s.window)) {
		return s.window[off-s.at:][:n:n], nil
	}
	want := min(max(n, windowSize), s.size-off)
	if int64(cap(s.window)) < want {
		s.window = make([]byte, want)
	}
	s.window, s.at = s.window[:want], off
	if m, err := s.file.ReadAt(s.window, off); err != nil && !(errors.Is(err, io.EOF) && int64(m) == want) {
		s.window = s.window[:0]
		return nil, fmt.Errorf("read write-ahead log %s: %w", s.file.Name(), err)
	}
	return s.window[:n:n], nil
}

// bad is a batch whose bytes do not check, as opposed to one that can't be read.
type bad struct {
	off    int64
	reason string
}

func (b *bad) Error() string { return b.reason }

// batch checks the batch at off and appends its frames; they are valid until
// the next call of a method of s. An error of type *bad says that the bytes do
// not check.
func (s *source) batch(off int64, frames []Frame) (_ []Frame, end int64, err error) {
	if s.size-off < batchHead {
		return frames, 0, &bad{off, endOfBatches}
	}
	b, err := s.view(off, batchHead)
	if err != nil {
		return frames, 0, err
	}
	h, reason := decodeBatchHeader(b, &s.sum, s.life, off)
	if reason != "" {
		return frames, 0, &bad{off, reason}
	}
	if h.length < batchHead || int64(h.length) > s.size-off || int64(h.count) > int64(h.length-batchHead)/frameHead {
		return frames, 0, &bad{off, "length of the batch is impossible"}
	}
	if b, err = s.view(off, int64(h.length)); err != nil {
		return frames, 0, err
	}
	at, body := batchHead, uint32(0)
	for range h.count {
		f, size, reason := checkFrame(b[at:], &s.sum, s.life, off+int64(at))
		if reason != "" {
			return frames, 0, &bad{off + int64(at), reason}
		}
		f.File, f.Batch = s.file.Name(), off
		frames = append(frames, f)
		body = crc32.Update(body, castagnoli, b[at:at+4])
		at += size
	}
	if at != len(b) || body != h.body {
		return frames, 0, &bad{off, "frames of the batch do not belong together"}
	}
	return frames, off + int64(h.length), nil
}

// scan calls visit for each batch of a begun file. The end is known for all
// but the last one: of that, a torn tail is left out.
func (s *source) scan(last bool, visit func(frames []Frame) error) (torn *bad, err error) {
	var frames []Frame
	off := int64(dataOffset)
	for last || off < s.end {
		clear(frames)
		var end int64
		frames, end, err = s.batch(off, frames[:0])
		if err == nil && !last && end > s.end {
			return nil, s.damage(off, fmt.Sprintf("the batch ends at byte %d, the file at %d", end, s.end))
		}
		var b *bad
		switch {
		case err == nil:
			if err := visit(frames); err != nil {
				return nil, err
			}
			off = end
			continue
		case !errors.As(err, &b):
			return nil, err
		case !last:
			return nil, s.damage(b.off, b.reason)
		}
		later, err := s.later(off)
		if err != nil {
			return nil, err
		}
		if later > 0 {
			return nil, s.damage(b.off, fmt.Sprintf("%s, but the batch at byte %d was written when this was durable", b.reason, later))
		}
		s.end = off
		return b, nil
	}
	return nil, nil
}

// later finds a batch header behind off that says that off was durable, or 0.
func (s *source) later(off int64) (int64, error) {
	magic := le.AppendUint32(nil, batchMagic)
	for at := off + 1; s.size-at >= batchHead; {
		n := min(s.size-at, windowSize)
		b, err := s.view(at, n)
		if err != nil {
			return 0, err
		}
		for i := 0; ; i++ {
			j := bytes.Index(b[i:], magic)
			if j < 0 || int64(i+j+batchHead) > n {
				break
			}
			i += j
			h, reason := decodeBatchHeader(b[i:i+batchHead], &s.sum, s.life, at+int64(i))
			if reason == "" && h.durable.seq == s.seq && h.durable.end > off {
				return at + int64(i), nil
			}
		}
		at += n - (batchHead - 1)
	}
	return 0, nil
}

// unbegun checks that a file without a link holds nothing: the link is durable
// before the first batch is written.
func (s *source) unbegun() error {
	off := int64(dataOffset)
	if s.size-off >= batchHead {
		b, err := s.view(off, batchHead)
		if err != nil {
			return err
		}
		if _, reason := decodeBatchHeader(b, &s.sum, s.life, off); reason == "" {
			return s.damage(linkOffset, "its link is damaged, for a batch follows it")
		}
	}
	later, err := s.later(off)
	if err == nil && later > 0 {
		err = s.damage(linkOffset, fmt.Sprintf("its link is damaged, for the batch at byte %d follows it", later))
	}
	return err
}

// scanAll calls visit for every batch of the log, in order. It returns the last
// begun file (nil in a log that was never begun) and what is torn at its end,
// which for a clean end says that no batch begins there.
func scanAll(set []*source, visit func(s *source, frames []Frame) error) (last *source, torn *bad, err error) {
	for _, s := range set {
		if s.begun {
			last = s
			continue
		}
		if err := s.unbegun(); err != nil {
			return nil, nil, err
		}
	}
	for _, s := range set {
		if !s.begun {
			break
		}
		torn, err = s.scan(s == last, func(frames []Frame) error { return visit(s, frames) })
		s.window = nil
		if err != nil {
			return nil, nil, err
		}
	}
	return last, torn, nil
}
