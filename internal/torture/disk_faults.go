package torture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// diskFaults harm what a node has stored. A record may then be on a bare majority less
// one, so that they wait until everything is in sync, and for each other.
func (r *run) diskFaults(l *local) []fault {
	return []fault{
		{name: "wipe", alone: true, begin: func(ctx context.Context, rnd *rand.Rand) (string, func() error, error) {
			return r.harm(ctx, l, rnd, func(m *member) (string, error) { return "the directory", os.RemoveAll(m.dir) })
		}},
		{name: "bit-flip", alone: true, begin: func(ctx context.Context, rnd *rand.Rand) (string, func() error, error) {
			return r.harm(ctx, l, rnd, func(m *member) (string, error) { return flip(m.dir, rnd) })
		}},
		{name: "truncate", alone: true, begin: func(ctx context.Context, rnd *rand.Rand) (string, func() error, error) {
			return r.harm(ctx, l, rnd, func(m *member) (string, error) { return truncate(m.dir, rnd) })
		}},
	}
}

// harm ends a node in order, harms its directory, and starts it again.
func (r *run) harm(ctx context.Context, l *local, rnd *rand.Rand, do func(*member) (string, error)) (string, func() error, error) {
	if len(l.nodes) < 3 || r.whole(ctx) != nil {
		return "", nil, errNotNow
	}
	m := l.nodes[rnd.IntN(len(l.nodes))]
	what, end, err := l.down([]*member{m}, func(m *member) error { return m.runs.stop() })
	if err != nil {
		return "", nil, err
	}
	harmed, err := do(m)
	if err != nil {
		return "", nil, errors.Join(err, end())
	}
	return fmt.Sprintf("%s of %s", harmed, what), func() error {
		if err := end(); err != nil {
			return err
		}
		// What a checksum proves damaged is mended as an operator would have it done.
		_ = r.until(ctx, 20*time.Second, func() error {
			differences, _, err := r.compare(ctx, true)
			if err == nil && differences > 0 {
				err = errors.New("damaged still")
			}
			return err
		})
		return nil
	}, nil
}

// whole says what is not in sync.
func (r *run) whole(ctx context.Context) error {
	placed, err := r.placed(ctx)
	if err != nil {
		return err
	}
	for _, p := range placed {
		if p.Leader <= 0 || p.Moving || len(p.InSync) < len(p.Replicas) {
			return fmt.Errorf("%s: leader %d, replicas %v, in sync %v, moving %t", p.TP(), p.Leader, p.Replicas, p.InSync, p.Moving)
		}
	}
	return nil
}

// segment chooses a segment that holds something.
func segment(dir string, rnd *rand.Rand) (path string, size int64, err error) {
	n := 0
	err = filepath.WalkDir(filepath.Join(dir, "partitions"), func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(at, ".log") || filepath.Base(filepath.Dir(at)) != "log" {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		if n++; rnd.IntN(n) == 0 {
			path, size = at, info.Size()
		}
		return nil
	})
	if err == nil && n == 0 {
		err = errNotNow
	}
	return path, size, err
}

// flip flips a bit in a segment.
func flip(dir string, rnd *rand.Rand) (what string, err error) {
	path, size, err := segment(dir, rnd)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	at, b := rnd.Int64N(size), make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return "", err
	}
	b[0] ^= 1 << rnd.IntN(8)
	_, err = f.WriteAt(b, at)
	return fmt.Sprintf("byte %d of %s", at, path), err
}

// truncate cuts the end of a segment off.
func truncate(dir string, rnd *rand.Rand) (string, error) {
	path, size, err := segment(dir, rnd)
	if err != nil {
		return "", err
	}
	to := rnd.Int64N(size)
	return fmt.Sprintf("%d of %d bytes of %s", size-to, size, path), os.Truncate(path, to)
}
