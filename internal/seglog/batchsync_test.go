package seglog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// together opens n logs whose syncs are made together.
func together(t *testing.T, fsys vfs.FS, n int, states []State) (w *Writer, logs []*Log, err error) {
	t.Helper()
	w = NewWriter(WriterOptions{FS: fsys, Dir: "/data", Buffered: true})
	for i := range n {
		l, err := Open(Options{FS: fsys, Dir: fmt.Sprintf("/data/p%d", i), Writer: w, SegmentBytes: 2000}, states[i])
		if err != nil {
			return w, logs, err
		}
		logs = append(logs, l)
	}
	return w, logs, nil
}

func closeAll(w *Writer, logs []*Log) {
	for _, l := range logs {
		l.Close()
	}
	w.Close()
}

func appendSome(t *testing.T, l *Log, r *rand.Rand) error {
	_, next := l.Offsets()
	value := make([]byte, r.IntN(900))
	for i := range value {
		value[i] = byte(r.Uint32())
	}
	return l.Append(encode(t, codecNone, []rec{{ts: 1, value: value}}), next, 1)
}

// TestSyncedTogether: the syncs of many logs become a few of the whole volume,
// and after a power loss at any of them each log opens at the last state whose
// SyncTo has returned nil, with whole segments.
func TestSyncedTogether(t *testing.T) {
	first, n := rand.Uint64()>>16, 25
	if v, err := strconv.ParseUint(os.Getenv("SEGLOG_SEED"), 10, 64); err == nil {
		first, n = v, 1
	}
	if v, err := strconv.Atoi(os.Getenv("SEGLOG_CASES")); err == nil {
		n = v
	}
	for seed := first; seed < first+uint64(n); seed++ {
		t.Run(fmt.Sprint("SEGLOG_SEED=", seed), func(t *testing.T) { togetherCase(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func togetherCase(t *testing.T, r *rand.Rand) {
	m := vfs.NewMem()
	if err := errors.Join(m.MkdirAll("/data"), m.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	const logs = 12
	states := make([]State, logs)
	var files, volumes atomic.Int64
	for range 4 {
		fsys := vfs.NewCounted(m, func(call, _ string) {
			switch call {
			case vfs.CallVolume:
				volumes.Add(1)
			case vfs.CallFile:
				files.Add(1)
			}
		})
		w, all, err := together(t, fsys, logs, states)
		if err != nil {
			t.Fatal(err)
		}
		m.ArmCrash(1 + r.Int64N(60))
		for !m.Crashed() {
			var wg sync.WaitGroup
			synced := make([]bool, logs)
			next := make([]State, logs)
			for i, l := range all {
				for range 1 + r.IntN(4) {
					if err := appendSome(t, l, r); err != nil && !errors.Is(err, vfs.ErrCrashed) {
						t.Fatal(err)
					}
				}
				next[i] = l.State()
				wg.Go(func() { synced[i] = l.SyncTo(next[i]) == nil })
			}
			wg.Wait()
			for i := range all {
				if synced[i] {
					states[i] = next[i]
				}
			}
		}
		closeAll(w, all)
		m.Crash(r)
	}
	if files.Load() > 8*volumes.Load()+40 {
		t.Errorf("%d syncs of files, %d of the volume", files.Load(), volumes.Load())
	}
	w, all, err := together(t, m, logs, states)
	defer func() { closeAll(w, all) }()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range all {
		for offset := int64(0); offset < states[i].Next; { // each batch's checksum is looked at
			d, err := l.Read(offset, 1<<20, true, states[i].Next)
			if err != nil || d.Next() <= offset {
				t.Fatalf("log %d, read at %d of %d: %v", i, offset, states[i].Next, err)
			}
			offset = d.Next()
			flat(d)
		}
	}
}

// TestVolumeFails: a failed sync of the volume ends every log that waited for
// it, and is told once for each; it is not tried again.
func TestVolumeFails(t *testing.T) {
	m := vfs.NewMem()
	if err := m.MkdirAll("/data"); err != nil {
		t.Fatal(err)
	}
	fsys := vfs.NewFail(m, func(op vfs.Op, _ string) error {
		if op == vfs.OpSyncVolume {
			return syscall.EIO
		}
		return nil
	})
	const n = 8
	w, logs, err := together(t, fsys, n, make([]State, n))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { closeAll(w, logs) }()
	var wg sync.WaitGroup
	var failed, told atomic.Int64
	r := rand.New(rand.NewPCG(1, 1))
	for _, l := range logs {
		l.onFatal = func(error) { told.Add(1) }
		if err := appendSome(t, l, r); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range logs {
		wg.Go(func() {
			if errors.Is(l.SyncTo(l.State()), syscall.EIO) {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if failed.Load() == 0 || told.Load() != failed.Load() {
		t.Fatalf("%d logs failed, %d were told", failed.Load(), told.Load())
	}
	for _, l := range logs {
		if err := appendSome(t, l, r); l.alive() != nil && err == nil {
			t.Fatal("a log whose sync has failed takes more")
		}
	}
}
