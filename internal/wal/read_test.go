package wal

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// seen is what a Read has found.
type seen struct {
	frames  []Frame
	damages []*DamageError
	files   []FileReport
}

func readAll(t testing.TB, fsys vfs.FS, path string) (s seen) {
	t.Helper()
	must(t, Read(fsys, path, Visitor{
		Frame: func(f Frame) error {
			f.Data, f.Extensions = nil, nil
			s.frames = append(s.frames, f)
			return nil
		},
		Damage: func(d *DamageError) error { s.damages = append(s.damages, d); return nil },
		File:   func(r FileReport) error { s.files = append(s.files, r); return nil },
	}))
	return s
}

// written makes a log of several files and closes it.
func written(t testing.TB, fsys vfs.FS) {
	t.Helper()
	l := open(t, small(fsys))
	for i := uint64(1); i <= 40; i++ {
		must(t, l.Group(i%3+1).StoreLogs(entries((i-1)/3+1, (i-1)/3+1, 7, 2000)))
	}
	must(t, l.Group(1).SetUint64([]byte("LastVoteTerm"), 9))
	must(t, l.Group(1).Set([]byte("LastVoteCand"), []byte("71")))
	must(t, l.Close())
}

func TestReadWholeLog(t *testing.T) {
	fsys := newMem(t)
	written(t, fsys)
	s := readAll(t, fsys, "/data/wal")
	want := 0
	must(t, Inspect(fsys, "/data/wal", func(f Frame) error {
		if got := s.frames[want]; got.Offset != f.Offset || got.FileSeq != f.FileSeq || got.Index != f.Index || got.Kind != f.Kind {
			t.Fatalf("frame %d: got %+v, want %+v", want, got, f)
		}
		want++
		return nil
	}))
	if len(s.frames) != want || len(s.damages) > 0 {
		t.Fatalf("%d frames, want %d; damages %v", len(s.frames), want, s.damages)
	}
	begun := 0
	for _, f := range s.files {
		if f.Identity != self || f.Torn != "" {
			t.Errorf("%+v", f)
		}
		if f.Begun {
			begun++
		}
	}
	if begun < 3 {
		t.Fatalf("%d files were begun; the test wants several", begun)
	}
}

// TestReadBehindDamage flips bytes all over a file that has a successor: each is
// reported at a byte that is not behind it, and what lies before and behind the
// batch is shown all the same.
func TestReadBehindDamage(t *testing.T) {
	whole := newMem(t)
	written(t, whole)
	before := readAll(t, whole, "/data/wal")
	first := before.files[0]
	id, err := json.Marshal(self)
	must(t, err)
	headed := int64(birthFixed + len(id))
	for off := int64(0); off < first.End; off += 37 {
		if off >= linkOffset+linkSize && off < dataOffset || off >= headed && off < linkOffset {
			continue // padding of the two header pages
		}
		fsys := newMem(t)
		written(t, fsys)
		name := readAll(t, fsys, "/data/wal").files[0].File
		flip(t, fsys, name, off)
		s := readAll(t, fsys, "/data/wal")
		if len(s.damages) == 0 || s.damages[0].File != name || s.damages[0].Offset > max(off, linkOffset) {
			t.Fatalf("byte %d flipped: damages %v", off, s.damages)
		}
		if off >= dataOffset && len(s.frames) < len(before.frames)-2 {
			t.Fatalf("byte %d flipped: %d of %d frames are left", off, len(s.frames), len(before.frames))
		}
		if off < linkOffset && len(s.frames) != len(before.frames) {
			t.Fatalf("byte %d of the header flipped: %d of %d frames are left", off, len(s.frames), len(before.frames))
		}
	}
}

func TestReadMissingAndCut(t *testing.T) {
	fsys := newMem(t)
	written(t, fsys)
	files := readAll(t, fsys, "/data/wal").files
	f, err := fsys.OpenWrite(files[0].File)
	must(t, err)
	must(t, f.Truncate(files[0].End-100))
	must(t, f.Close())
	s := readAll(t, fsys, "/data/wal")
	if len(s.damages) != 1 || s.damages[0].File != files[0].File {
		t.Fatalf("cut file: damages %v", s.damages)
	}
	must(t, fsys.Remove(files[1].File))
	s = readAll(t, fsys, "/data/wal")
	if len(s.damages) != 1 || s.damages[0].File != files[2].File {
		t.Fatalf("missing file: damages %v", s.damages)
	}
}

func FuzzRead(f *testing.F) {
	mem := newMem(f)
	written(f, mem)
	for _, file := range readAll(f, mem, "/data/wal").files[:2] {
		h, err := mem.Open(file.File)
		must(f, err)
		b := make([]byte, file.Size)
		_, err = h.ReadAt(b, 0)
		must(f, err)
		f.Add(b)
		f.Add(b[:file.End-10])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), fileName(1))
		must(t, os.WriteFile(name, data, 0o600))
		frames := 0
		err := Read(vfs.OS, name, Visitor{
			Frame: func(f Frame) error {
				if frames++; f.Offset < dataOffset || f.Offset+int64(f.Size) > int64(len(data)) {
					return errors.New("frame outside of the file")
				}
				return nil
			},
			Damage: func(d *DamageError) error { return nil },
			File:   func(r FileReport) error { return nil },
		})
		if err != nil || frames*frameHead > len(data) {
			t.Fatalf("%d frames in %d bytes: %v", frames, len(data), err)
		}
	})
}
