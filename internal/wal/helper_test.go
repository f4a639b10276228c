package wal

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

var self = identity.Identity{ClusterID: "6f1d0f0c-32d1-4d7e-a1a8-5b1f6d6e4c11", NodeID: 1, Incarnation: "0b0a4f7e-7a55-4d5f-9a43-6a4c1d5f1e22"}

// small is the options of a log in memory with files that fill up quickly.
func small(fsys vfs.FS) Options {
	return Options{FS: fsys, Dir: "/data/wal", Identity: self, FileSize: 32 << 10, SizeLimit: 192 << 10, TailBytes: 16 << 10, slowDown: time.Millisecond}
}

func newMem(t testing.TB) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	must(t, m.MkdirAll("/data"))
	must(t, m.SyncDir("/"))
	return m
}

func open(t testing.TB, opts Options) *Log {
	t.Helper()
	l, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// entry makes an entry whose bytes follow from its arguments.
func entry(index, term uint64, size int) *raft.Log {
	return &raft.Log{Index: index, Term: term, Type: raft.LogType(index % 3), Data: payload(index, term, size), AppendedAt: time.Unix(int64(term), int64(index))}
}

func payload(index, term uint64, size int) []byte {
	if size == 0 {
		return nil
	}
	var seed [8]byte
	binary.LittleEndian.PutUint32(seed[:], uint32(index))
	binary.LittleEndian.PutUint32(seed[4:], uint32(term)<<16|uint32(size))
	return bytes.Repeat(seed[:], size/8+1)[:size]
}

func entries(from, to, term uint64, size int) (logs []*raft.Log) {
	for i := from; i <= to; i++ {
		logs = append(logs, entry(i, term, size))
	}
	return logs
}

func sameEntry(a, b *raft.Log) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && a.AppendedAt.Equal(b.AppendedAt) &&
		bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Extensions, b.Extensions)
}

// wantRange checks first and last index.
func wantRange(t testing.TB, s raft.LogStore, first, last uint64) {
	t.Helper()
	f, err := s.FirstIndex()
	must(t, err)
	l, err := s.LastIndex()
	must(t, err)
	if f != first || l != last {
		t.Fatalf("entries %d to %d, want %d to %d", f, l, first, last)
	}
}

func wantEntry(t testing.TB, s raft.LogStore, want *raft.Log) {
	t.Helper()
	var got raft.Log
	if err := s.GetLog(want.Index, &got); err != nil {
		t.Fatalf("entry %d: %v", want.Index, err)
	}
	if !sameEntry(&got, want) {
		t.Fatalf("entry %d: got %+.100v, want %+.100v", want.Index, got, want)
	}
}

// until waits for a condition that the log's goroutines bring about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timeout: %s", what)
		}
	}
}

// seeds returns the seeds to run: n of them from a random one on, or what
// WAL_SEED and WAL_CASES say.
func seeds(t testing.TB, n int) (first uint64, count int) {
	t.Helper()
	first = rand.Uint64() >> 16
	if s := os.Getenv("WAL_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		must(t, err)
		first, n = v, 1
	}
	if s := os.Getenv("WAL_CASES"); s != "" {
		v, err := strconv.Atoi(s)
		must(t, err)
		n = v
	}
	return first, n
}

// flip changes one byte of a file, durably.
func flip(t testing.TB, fsys vfs.FS, name string, off int64) {
	t.Helper()
	f, err := fsys.OpenWrite(name)
	must(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], off)
	must(t, err)
	b[0] ^= 0x40
	_, err = f.WriteAt(b[:], off)
	must(t, err)
	must(t, f.Sync())
}

// frames lists what Inspect sees.
func frames(t testing.TB, fsys vfs.FS, dir string) (all []Frame) {
	t.Helper()
	must(t, Inspect(fsys, dir, func(f Frame) error {
		f.Data, f.Extensions = bytes.Clone(f.Data), bytes.Clone(f.Extensions)
		all = append(all, f)
		return nil
	}))
	return all
}
