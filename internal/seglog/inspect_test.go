package seglog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// madeSegments writes a log of sealed segments and an active one to a directory.
func madeSegments(t testing.TB) (dir string, st State) {
	t.Helper()
	dir = t.TempDir()
	w := testWriter(t, WriterOptions{Buffered: true})
	l := mustOpen(t, Options{FS: vfs.OS, Dir: dir, Writer: w, SegmentBytes: 16 << 10, IndexInterval: 512}, State{})
	for i := range int64(60) {
		b := encode(t, int(i%allCodecs), []rec{{ts: 1000 + i, key: []byte("k"), value: bytes.Repeat([]byte{byte(i)}, 700)}})
		if i%allCodecs != 0 {
			b = encode(t, 0, []rec{{ts: 1000 + i, value: bytes.Repeat([]byte{byte(i)}, 700)}})
		}
		if err := l.Append(b, i, 1); err != nil {
			t.Fatal(err)
		}
	}
	st = l.State()
	if err := l.SyncTo(st); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, st
}

func inspect(t testing.TB, name string) (report SegmentReport, offsets []int64, damages []*DamageError) {
	t.Helper()
	report, err := InspectSegment(vfs.OS, name, SegmentVisitor{
		Batch:  func(_ int64, b Batch) error { offsets = append(offsets, b.BaseOffset()); return nil },
		Damage: func(d *DamageError) error { damages = append(damages, d); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return report, offsets, damages
}

func TestInspectSegments(t *testing.T) {
	dir, st := madeSegments(t)
	if len(st.Segments) < 3 {
		t.Fatalf("%d segments; the test wants more", len(st.Segments))
	}
	for i, info := range st.Segments {
		r, offsets, damages := inspect(t, filepath.Join(dir, logName(info.Base)))
		index := "ok"
		if i == len(st.Segments)-1 {
			index = "none"
		}
		if len(damages) > 0 || r.Torn != "" || r.CRC != info.CRC || r.Size != info.Bytes || r.LastOffset != info.LastOffset ||
			r.MaxTimestamp != info.MaxTimestamp || r.Index != index || int64(len(offsets)) != info.LastOffset-info.Base+1 {
			t.Errorf("segment %+v: report %+v, damages %v", info, r, damages)
		}
	}
}

// TestInspectDamage flips bytes all over a sealed segment: each is reported at
// the batch it is in, and all other batches are shown. Only base offset and
// epoch lie outside of a batch's checksum; the index tells of those.
func TestInspectDamage(t *testing.T) {
	dir, st := madeSegments(t)
	name := filepath.Join(dir, logName(st.Segments[0].Base))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	_, all, _ := inspect(t, name)
	for at := 0; at < len(whole); at += 13 {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x41
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r, offsets, damages := inspect(t, name)
		switch {
		case len(damages) == 0 && r.Index == "ok":
			t.Fatalf("byte %d flipped: not noticed", at)
		case len(damages) > 0 && damages[0].Offset > int64(at):
			t.Fatalf("byte %d flipped: %v", at, damages[0])
		case len(damages) == 1 && len(offsets) < len(all)-1:
			t.Fatalf("byte %d flipped: %d of %d batches are left", at, len(offsets), len(all))
		}
	}
}

func TestInspectTornAndIndex(t *testing.T) {
	dir, st := madeSegments(t)
	active := filepath.Join(dir, logName(st.Segments[len(st.Segments)-1].Base))
	if err := os.Truncate(active, st.Segments[len(st.Segments)-1].Bytes-5); err != nil {
		t.Fatal(err)
	}
	if r, _, damages := inspect(t, active); r.Torn == "" || len(damages) > 0 {
		t.Errorf("cut active segment: %+v, damages %v", r, damages)
	}
	index := filepath.Join(dir, indexName(st.Segments[0].Base))
	p, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	p[len(p)-3] ^= 1
	if err := os.WriteFile(index, p, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, _, damages := inspect(t, filepath.Join(dir, logName(st.Segments[0].Base))); !strings.Contains(r.Index, "crc") || len(damages) > 0 {
		t.Errorf("bad index: %+v, damages %v", r, damages)
	}
	if err := os.Truncate(filepath.Join(dir, logName(st.Segments[1].Base)), st.Segments[1].Bytes-5); err != nil {
		t.Fatal(err)
	}
	if r, _, damages := inspect(t, filepath.Join(dir, logName(st.Segments[1].Base))); len(damages) != 1 || r.Torn != "" {
		t.Errorf("cut sealed segment: %+v, damages %v", r, damages)
	}
}

func FuzzInspect(f *testing.F) {
	dir, st := madeSegments(f)
	for _, info := range st.Segments[:2] {
		b, err := os.ReadFile(filepath.Join(dir, logName(info.Base)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-7])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), logName(0))
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		r, offsets, _ := inspect(t, name)
		if len(offsets)*BatchHeaderLen > len(data) {
			t.Fatalf("%d batches in %d bytes: %+v", len(offsets), len(data), r)
		}
	})
}
