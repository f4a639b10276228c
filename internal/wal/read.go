package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strconv"
	"strings"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

// FileReport is what Read found in one log file.
type FileReport struct {
	File        string
	Seq         uint64 // by its header, or its name when that is damaged
	Size        int64
	Identity    identity.Identity // empty when the header is damaged
	Begun       bool              // false: prepared, nothing was written to it yet
	Previous    uint64            // its predecessor; 0: the log begins here
	PreviousEnd int64             // where that ends
	End         int64             // where the batches end
	EndKnown    bool              // the successor says so
	Batches     int
	Frames      int
	Damaged     int
	Torn        string // what is wrong with the batch at End, which was never acknowledged
}

// Visitor gets what Read finds, in order. An error ends the reading.
type Visitor struct {
	Frame  func(Frame) error // its bytes are valid during the call
	Damage func(*DamageError) error
	File   func(FileReport) error // after its frames
}

// Read reads a log directory or a single log file without changing it, and
// whatever its state: behind damage it goes on at the next batch that checks.
// Whose log it is does not matter. The log should not be open: what is being
// written looks torn.
func Read(fsys vfs.FS, path string, v Visitor) error {
	info, err := fsys.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		_, err := readFile(fsys, path, nil, v)
		return err
	}
	names, err := logFiles(fsys, path)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("%s holds no files of a write-ahead log (*%s)", path, fileSuffix)
	}
	before := uint64(0)
	for i, f := range names {
		if i > 0 && f.seq != before+1 {
			err := v.Damage(&DamageError{File: f.path, Reason: fmt.Sprintf("file %s before it is missing", fileName(f.seq-1))})
			if err != nil {
				return err
			}
		}
		before = f.seq
		var next *string
		if i+1 < len(names) && names[i+1].seq == f.seq+1 {
			next = &names[i+1].path
		}
		report, err := readFile(fsys, f.path, next, v)
		if err != nil {
			return err
		}
		if i == 0 && report.Begun && report.Previous != 0 && report.Previous != f.seq-1 {
			err = v.Damage(&DamageError{File: f.path, Offset: linkOffset, Reason: fmt.Sprintf("its link names file %016x as its predecessor", report.Previous)})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type numbered struct {
	path string
	seq  uint64
}

func logFiles(fsys vfs.FS, dir string) (files []numbered, err error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		hex, ok := strings.CutSuffix(name, fileSuffix)
		if !ok {
			continue
		}
		if seq, err := strconv.ParseUint(hex, 16, 64); err == nil {
			files = append(files, numbered{vfs.Join(dir, name), seq})
		}
	}
	sort.Slice(files, func(i, j int) bool { return files[i].seq < files[j].seq })
	return files, nil
}

// reader is a file under Read.
type reader struct {
	source
	v      Visitor
	report FileReport
}

// readFile reads one file. next is its successor, nil if there is none.
func readFile(fsys vfs.FS, name string, next *string, v Visitor) (FileReport, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return FileReport{}, err
	}
	defer f.Close()
	r := reader{source: source{file: f}, v: v, report: FileReport{File: name}}
	if r.size, err = f.Size(); err != nil {
		return r.report, err
	}
	r.report.Size = r.size
	end := int64(0)
	if next != nil {
		if end, err = endBySuccessor(fsys, *next); err != nil {
			return r.report, err
		}
	}
	legible, err := r.header()
	if err == nil && legible {
		err = r.batches(end)
	}
	if err == nil {
		err = v.File(r.report)
	}
	return r.report, err
}

func (r *reader) damaged(d *DamageError) error {
	r.report.Damaged++
	return r.v.Damage(d)
}

// header reads the two pages before the batches; legible says that batches can
// be checked.
func (r *reader) header() (legible bool, err error) {
	bad := func(off int64, reason string) (bool, error) {
		return false, r.damaged(&DamageError{File: r.file.Name(), Offset: off, Reason: reason})
	}
	if r.size < dataOffset {
		return bad(0, "too short for its header")
	}
	if r.size > maxFile {
		return bad(0, fmt.Sprintf("%d bytes are too many for a log file", r.size))
	}
	b, err := r.view(0, dataOffset)
	if err != nil {
		return false, err
	}
	life, id, reason := decodeBirth(b[:linkOffset])
	if reason != "" {
		// The link names the same life, so the batches can be checked by it.
		life.seq, life.salt = le.Uint64(b[linkOffset+8:]), le.Uint64(b[linkOffset+16:])
		if _, ok := decodeLink(life, b[linkOffset:]); !ok {
			return bad(0, reason)
		}
		if _, err := bad(0, reason); err != nil {
			return false, err
		}
	}
	r.life = life
	r.prev, r.begun = decodeLink(life, b[linkOffset:])
	r.report.Seq, r.report.Identity, r.report.Begun = life.seq, id, r.begun
	r.report.Previous, r.report.PreviousEnd = r.prev.seq, r.prev.end
	if r.begun {
		return true, nil
	}
	var d *DamageError
	if err := r.unbegun(); errors.As(err, &d) {
		return true, r.damaged(d)
	} else if err != nil {
		return false, err
	}
	return false, nil
}

// batches reads batch after batch. end is where they end, 0 if nobody says.
func (r *reader) batches(end int64) error {
	r.report.EndKnown = end > 0
	var frames []Frame
	off := int64(dataOffset)
	for end == 0 || off < end {
		var next int64
		var err error
		frames, next, err = r.batch(off, frames[:0])
		var b *bad
		switch {
		case err == nil:
			if err := r.visit(frames); err != nil {
				return err
			}
			off = next
			continue
		case !errors.As(err, &b):
			return err
		}
		later, err := r.later(off)
		if err != nil {
			return err
		}
		if later == 0 && end == 0 {
			if b.reason != endOfBatches {
				r.report.Torn = fmt.Sprintf("%s, at byte %d", b.reason, b.off)
			}
			break
		}
		d := &DamageError{File: r.file.Name(), Offset: b.off, Reason: b.reason}
		if later > 0 {
			d.Reason = fmt.Sprintf("%s; goes on at byte %d", b.reason, later)
		} else {
			d.Reason = fmt.Sprintf("%s; nothing that checks follows, but the file ends at byte %d", b.reason, end)
		}
		if err := r.damaged(d); err != nil {
			return err
		}
		if off = later; later == 0 {
			off = end
		}
	}
	r.report.End = off
	if end > 0 && off > end {
		return r.damaged(&DamageError{File: r.file.Name(), Offset: end, Reason: fmt.Sprintf("its successor says that it ends here, but the last batch ends at byte %d", off)})
	}
	return nil
}

func (r *reader) visit(frames []Frame) error {
	r.report.Batches++
	for _, f := range frames {
		r.report.Frames++
		if err := r.v.Frame(f); err != nil {
			return err
		}
	}
	return nil
}

// endBySuccessor reads from the next file where the one before it ends; 0 if
// that one was not begun or can't tell.
func endBySuccessor(fsys vfs.FS, name string) (int64, error) {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size < dataOffset {
		return 0, err
	}
	b := make([]byte, linkSize)
	if _, err := f.ReadAt(b, linkOffset); err != nil {
		return 0, err
	}
	prev, ok := decodeLink(life{seq: le.Uint64(b[8:]), salt: le.Uint64(b[16:])}, b)
	if !ok || prev.end < dataOffset || prev.end > maxFile {
		return 0, nil
	}
	return prev.end, nil
}
