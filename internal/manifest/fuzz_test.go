package manifest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"maps"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

const fuzzFile = "d/0000000000000001" + suffix

func fuzzOptions(mem *vfs.Mem) Options {
	return Options{FS: mem, Dir: "d", Identity: self, Logger: slog.New(slog.DiscardHandler)}
}

// image is what a store's only file holds.
func image(t testing.TB, mem *vfs.Mem) []byte {
	t.Helper()
	f, err := mem.Open(fuzzFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func storeOf(t testing.TB, file []byte) (*Store, error) {
	t.Helper()
	mem := vfs.NewMem()
	if err := mem.MkdirAll("d"); err != nil {
		t.Fatal(err)
	}
	f, err := mem.Create(fuzzFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(file, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	return Open(fuzzOptions(mem))
}

// latest reads what a store lists, by group.
func latest(t testing.TB, s *Store) map[uint64]string {
	t.Helper()
	s.mu.Lock()
	ids := make([]uint64, 0, len(s.latest))
	for id := range s.latest {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	all := make(map[uint64]string)
	for _, id := range ids {
		list, err := s.Group(id).List()
		if err != nil || len(list) != 1 {
			t.Fatalf("group %d lists %v, %v", id, list, err)
		}
		_, r, err := s.Group(id).Open(list[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[id] = fmt.Sprintf("%d %s", list[0].Index, b)
	}
	return all
}

// FuzzScan reads records that are arbitrary but for their checksums, which are
// made right, and compares with a plain reading of the format.
func FuzzScan(f *testing.F) {
	mem := vfs.NewMem()
	s, err := Open(fuzzOptions(mem))
	if err != nil {
		f.Fatal(err)
	}
	begin := int(s.end)
	put(f, s, 1, 1, []byte("first"))
	put(f, s, 2, 2, []byte("second"))
	if err := s.Drop(1); err != nil {
		f.Fatal(err)
	}
	put(f, s, 1, 3, nil)
	s.Close()
	head, records := image(f, mem)[:begin], image(f, mem)[begin:]
	f.Add(records)
	f.Add(records[:len(records)-3])
	one := records[:recordHeader+binary.LittleEndian.Uint32(records[4:])]
	f.Add(batchOf(one))
	f.Add(append(batchOf(one, one), records...))
	long := bytes.Clone(one) // says that it goes on behind its end
	binary.LittleEndian.PutUint32(long[4:], binary.LittleEndian.Uint32(long[4:])+5)
	f.Add(batchOf(one, long))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			return
		}
		data = bytes.Clone(data)
		want, whole := sealRecords(data)
		s, err := storeOf(t, append(bytes.Clone(head), data...))
		if err != nil {
			var damage *DamageError
			if whole || !errors.As(err, &damage) {
				t.Fatal(err)
			}
			return
		}
		defer s.Close()
		if got := latest(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		put(t, s, 9, 9, []byte("after")) // and it goes on
		if got := latest(t, s); got[9] != "9 after" {
			t.Fatalf("got %v", got)
		}
	})
}

// sealRecords makes checksums right as far as lengths lead, and says what the
// records mean up to the first that is none; whole: that is the end.
func sealRecords(data []byte) (want map[uint64]string, whole bool) {
	want = make(map[uint64]string)
	for len(data) >= recordHeader && binary.LittleEndian.Uint32(data) == recordMagic {
		n := int64(binary.LittleEndian.Uint32(data[4:]))
		if n > int64(len(data)-recordHeader) {
			return want, false
		}
		body := data[recordHeader : recordHeader+n]
		batch := n >= 9 && body[0] == kindBatch
		var parts map[uint64]string
		good := true
		if batch {
			parts, good = sealParts(body)
		}
		binary.LittleEndian.PutUint32(data[8:], crc32.Checksum(body, castagnoli))
		data = data[recordHeader+n:]
		if !good {
			return want, false
		}
		maps.Copy(want, parts)
		switch {
		case batch:
			continue
		case n >= 9 && body[0] == kindDrop:
			delete(want, binary.LittleEndian.Uint64(body[1:]))
			continue
		case n < 13 || body[0] != kindSnapshot:
			return want, false
		}
		m := int64(binary.LittleEndian.Uint32(body[9:]))
		var meta raft.SnapshotMeta
		if m > n-13 || json.Unmarshal(body[13:13+m], &meta) != nil {
			return want, false
		}
		want[binary.LittleEndian.Uint64(body[1:])] = fmt.Sprintf("%d %s", meta.Index, body[13+m:])
	}
	return want, len(data) == 0
}

// sealParts does the same within a batch, which counts as a whole or not at all.
func sealParts(body []byte) (want map[uint64]string, good bool) {
	want = make(map[uint64]string)
	count := binary.LittleEndian.Uint64(body[1:])
	n := uint64(0)
	for rest := body[9:]; len(rest) > 0; n++ {
		if len(rest) < recordHeader || binary.LittleEndian.Uint32(rest) != partMagic {
			return nil, false
		}
		size := int(binary.LittleEndian.Uint32(rest[4:]))
		if size > len(rest)-recordHeader || size < 13 {
			return nil, false
		}
		part := rest[recordHeader : recordHeader+size]
		binary.LittleEndian.PutUint32(rest[8:], crc32.Checksum(part, castagnoli))
		m := int(binary.LittleEndian.Uint32(part[9:]))
		var meta raft.SnapshotMeta
		if part[0] != kindSnapshot || m > size-13 || json.Unmarshal(part[13:13+m], &meta) != nil {
			return nil, false
		}
		want[binary.LittleEndian.Uint64(part[1:])] = fmt.Sprintf("%d %s", meta.Index, part[13+m:])
		rest = rest[recordHeader+size:]
	}
	return want, n > 0 && n == count
}

// batchOf makes one record of snapshots' records.
func batchOf(records ...[]byte) []byte {
	body := binary.LittleEndian.AppendUint64([]byte{kindBatch}, uint64(len(records)))
	for _, r := range records {
		body = append(body, r...)
		binary.LittleEndian.PutUint32(body[len(body)-len(r):], partMagic)
	}
	return append(recordHead(recordMagic, body), body...)
}

// FuzzStore writes and drops manifests, then cuts the file or changes a byte of
// it. Each group lists its newest manifest again, or, when the last record was
// hit, the one before it; else there is an error that names the place.
func FuzzStore(f *testing.F) {
	f.Add([]byte{1, 2, 3, 9, 4, 129, 66, 7}, uint16(90), byte(1), false)
	f.Add([]byte{1, 2, 3, 9, 4, 129, 66, 7}, uint16(400), byte(128), false)
	f.Add([]byte{1, 1, 1, 128, 1}, uint16(0), byte(0), false)
	f.Add([]byte{1, 1, 1, 128, 1}, uint16(3), byte(0), true)
	f.Add([]byte{48}, uint16(7), byte(3), false)
	f.Fuzz(func(t *testing.T, ops []byte, at uint16, xor byte, cut bool) {
		if len(ops) > 60 {
			return
		}
		mem := vfs.NewMem()
		s, err := Open(fuzzOptions(mem))
		if err != nil {
			t.Fatal(err)
		}
		states, ends := []map[uint64]string{{}}, []int64{s.end}
		for i, op := range ops {
			group := uint64(op & 3)
			next := make(map[uint64]string)
			for k, v := range states[len(states)-1] {
				next[k] = v
			}
			if op >= 128 {
				if err := s.Drop(group); err != nil {
					t.Fatal(err)
				}
				delete(next, group)
			} else {
				payload := bytes.Repeat([]byte{op}, int(op>>2))
				put(t, s, group, uint64(i+1), payload)
				next[group] = fmt.Sprintf("%d %s", i+1, payload)
			}
			if s.end != ends[len(ends)-1] { // dropping what is not there writes nothing
				states, ends = append(states, next), append(ends, s.end)
			}
		}
		s.Close()
		file := image(t, mem)
		where := int64(at) % int64(len(file))
		if cut {
			file = file[:int64(len(file))-where]
		} else {
			file[where] ^= xor
		}
		again, err := storeOf(t, file)
		last := len(states) - 1
		if err != nil {
			var damage *DamageError
			var other *identity.MismatchError
			if !errors.As(err, &damage) && !errors.As(err, &other) || !cut && xor == 0 {
				t.Fatal(err)
			}
			if cut && int64(len(file)) >= ends[0] {
				t.Fatalf("a torn tail is no damage: %v", err)
			}
			return
		}
		defer again.Close()
		want := states[last]
		switch {
		case cut:
			n := last
			for ends[n] > int64(len(file)) {
				n--
			}
			want = states[n]
		case xor != 0 && bytes.HasPrefix(file, []byte(oldMagic)):
			// It says that it is older than it is, and holds the same.
		case xor != 0 && where < ends[max(last-1, 0)]:
			t.Fatalf("byte %d of %d was changed by %#x, and it opens", where, len(file), xor)
		case xor != 0:
			want = states[max(last-1, 0)]
		}
		if got := latest(t, again); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}
