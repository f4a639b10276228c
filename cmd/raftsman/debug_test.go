package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"gopkg.in/yaml.v3"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/manifest"
	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/internal/wal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// madeBatch has one record.
func madeBatch(n int, producer int64) []byte {
	value := fmt.Sprintf("value %d", n)
	rec := []byte{0, 0, 0, 1} // attributes, deltas, null key
	rec = binary.AppendVarint(rec, int64(len(value)))
	rec = append(append(rec, value...), 0)
	b := make([]byte, seglog.BatchHeaderLen)
	b = append(binary.AppendVarint(b, int64(len(rec))), rec...)
	be := binary.BigEndian
	be.PutUint32(b[8:], uint32(len(b)-12))
	b[16] = 2
	be.PutUint64(b[27:], 1700000000000+uint64(n))
	be.PutUint64(b[35:], 1700000000000+uint64(n))
	be.PutUint64(b[43:], uint64(producer))
	be.PutUint16(b[51:], 0)
	be.PutUint32(b[53:], uint32(n))
	be.PutUint32(b[57:], 1)
	be.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// madeDataDir is a small data directory with all kinds of store files.
func madeDataDir(t *testing.T) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	id := identity.Identity{ClusterID: "c1", NodeID: 1, Incarnation: "i1"}
	replica := filepath.Join(dir, "partitions", "71")
	must(os.MkdirAll(filepath.Join(replica, "log"), 0o700))
	must(os.WriteFile(filepath.Join(replica, "replica.json"), []byte(`{"topic":"orders","topic_id":"t1","partition":3,"replica":71}`), 0o600))

	l, err := wal.Open(wal.Options{FS: vfs.OS, Dir: filepath.Join(dir, "wal"), Identity: id, FileSize: 64 << 10})
	must(err)
	g := l.Group(71)
	must(g.SetUint64([]byte("CurrentTerm"), 2))
	must(g.SetUint64([]byte("LastVoteTerm"), 2))
	must(g.Set([]byte("LastVoteCand"), []byte("72")))
	for i := range 3 {
		must(g.StoreLog(&raft.Log{Index: uint64(i + 1), Term: 2, Type: raft.LogCommand, Data: madeBatch(i, 4000), Extensions: []byte("0123456789"), AppendedAt: time.Unix(1700000000, 0)}))
	}
	must(g.DeleteRange(3, 3))
	must(l.Group(80).StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogNoop}))
	must(l.Close())
	// What was prepared meanwhile depends on the moment.
	prepared, err := filepath.Glob(filepath.Join(dir, "wal", "*"))
	must(err)
	for _, name := range prepared {
		if filepath.Base(name) != "0000000000000001.wal" {
			must(os.Remove(name))
		}
	}

	w := seglog.NewWriter(seglog.WriterOptions{Buffered: true})
	log, err := seglog.Open(seglog.Options{FS: vfs.OS, Dir: filepath.Join(replica, "log"), Writer: w, SegmentBytes: 150}, seglog.State{})
	must(err)
	for i := range 3 {
		must(log.Append(madeBatch(i, 4000), int64(i), 2))
	}
	state := log.State()
	must(log.SyncTo(state))
	must(log.Close())
	must(w.Close())

	m, err := manifest.Open(manifest.Options{FS: vfs.OS, Dir: filepath.Join(dir, "manifests"), Identity: id})
	must(err)
	payload, err := json.Marshal(map[string]any{"version": 1, "log": state, "epoch": 2, "segment_bytes": 150, "expired_producer_id": -1, "reached": []int{1, 4}})
	must(err)
	servers := raft.Configuration{Servers: []raft.Server{{ID: "71", Address: "71"}, {ID: "72", Address: "72"}}}
	for _, index := range []uint64{1, 2} {
		sink, err := m.Group(71).Create(1, index, 2, servers, 1, nil)
		must(err)
		_, err = sink.Write(payload)
		must(err)
		must(sink.Close())
	}
	must(m.Close())
	return dir
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestDebugGolden(t *testing.T) {
	clearEnv(t)
	dir := madeDataDir(t)
	for name, args := range map[string][]string{
		"debug-wal":            {"debug", "wal", dir},
		"debug-wal-topic":      {"debug", "wal", "--topic", "orders", dir},
		"debug-segment":        {"debug", "segment", "--records", dir},
		"debug-manifest":       {"debug", "manifest", dir},
		"debug-wal-json":       {"debug", "wal", "-o", "json", "--group", "71", "--summary", dir},
		"debug-segment-yaml":   {"debug", "segment", "-o", "yaml", filepath.Join(dir, "partitions", "71", "log", "00000000000000000000.log")},
		"debug-manifest-all":   {"debug", "manifest", "--all", "--topic", "orders/3", filepath.Join(dir, "manifests")},
		"debug-manifest-other": {"debug", "manifest", "--topic", "nothing", dir},
	} {
		out, err := execute(t, args...)
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
		golden(t, name, strings.ReplaceAll(out, dir, "DIR"))
	}
}

// TestDebugDamage: each verb names the file and the byte of a flipped bit, shows
// the rest, and fails.
func TestDebugDamage(t *testing.T) {
	clearEnv(t)
	for verb, name := range map[string]string{
		"wal":      "wal/0000000000000001.wal",
		"segment":  "partitions/71/log/00000000000000000000.log",
		"manifest": "manifests/0000000000000001.manifests",
	} {
		dir := madeDataDir(t)
		path := filepath.Join(dir, filepath.FromSlash(name))
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := map[string]int{"wal": 8192 + 60, "segment": 70, "manifest": 180}[verb]
		b[at] ^= 4
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, format := range []string{"table", "json", "yaml"} {
			out, err := execute(t, "debug", verb, "-o", format, dir)
			if err == nil || !strings.Contains(err.Error(), "1 place is damaged") {
				t.Errorf("%s %s: error %v", verb, format, err)
			}
			if found := damagesIn(t, format, out); len(found) != 1 || found[0].File != path || found[0].Offset > int64(at) || int64(at)-found[0].Offset > 200 {
				t.Errorf("%s %s: byte %d flipped, damage %v in\n%s", verb, format, at, found, out)
			}
		}
	}
}

func damagesIn(t *testing.T, format, out string) (found []damageItem) {
	t.Helper()
	switch format {
	case "json":
		for line := range strings.Lines(out) {
			var d struct {
				Kind string
				damageItem
			}
			if err := json.Unmarshal([]byte(line), &d); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			if d.Kind == "damage" {
				found = append(found, d.damageItem)
			}
		}
	case "yaml":
		dec := yaml.NewDecoder(strings.NewReader(out))
		for {
			var d struct {
				Kind, File string
				Offset     int64
			}
			if err := dec.Decode(&d); err == io.EOF {
				return found
			} else if err != nil {
				t.Fatal(err)
			}
			if d.Kind == "damage" {
				found = append(found, damageItem{File: d.File, Offset: d.Offset})
			}
		}
	default:
		for line := range strings.Lines(out) {
			if rest, ok := strings.CutPrefix(line, "DAMAGE  "); ok {
				var d damageItem
				if _, err := fmt.Sscanf(rest, "%s at byte %d:", &d.File, &d.Offset); err != nil {
					t.Fatal(err)
				}
				found = append(found, d)
			}
		}
	}
	return found
}

func TestDebugUsage(t *testing.T) {
	clearEnv(t)
	quiet(t)
	for _, args := range [][]string{
		{"debug"}, {"debug", "wal"}, {"debug", "segment", "--topic", "a", t.TempDir()}, {"debug", "manifest", "-o", "xml", "."},
	} {
		if code := run(t.Context(), args); code != 2 {
			t.Errorf("%v: exit code %d, want 2", args, code)
		}
	}
	for _, args := range [][]string{{"debug", "wal", t.TempDir()}, {"debug", "segment", "/nonexistent"}, {"debug", "manifest", t.TempDir()}} {
		if code := run(t.Context(), args); code != 1 {
			t.Errorf("%v: exit code %d, want 1", args, code)
		}
	}
}
