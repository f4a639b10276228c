package vfs

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

// SectorSize is the unit in which Mem tears un-synced bytes at a crash.
const SectorSize = 512

// ErrCrashed is returned by every operation between the crash of a Mem and
// its Crash call, and for ever by handles that were opened before it.
var ErrCrashed = errors.New("the disk has crashed")

// Mem is a file system in memory that can lose power. It keeps what is durable
// apart from what was merely written:
//
//   - bytes, and a changed length, become durable with Sync of the file;
//   - names (created, renamed, removed; directories too) become durable with
//     SyncDir of the directory that holds them.
//
// Crash throws the rest away: all of it, or, given a source of randomness, any
// part of it that a real disk might have kept: each un-synced sector survives
// or not independently of the others, and of a directory's un-synced changes a
// prefix survives (journals keep their order).
//
// It is safe for concurrent use.
type Mem struct {
	mu       sync.Mutex
	root     *memDir
	life     int // grows with each crash: older handles are dead
	crashed  bool
	armed    int64 // crash when ops reaches it; 0: not armed
	ops      int64 // writes and syncs so far
	capacity int64 // 0: unlimited
	used     int64 // lengths of all linked or open files
	locks    map[string]bool
}

// NewMem returns an empty file system.
func NewMem() *Mem {
	return &Mem{root: newMemDir(), locks: make(map[string]bool)}
}

// ArmCrash makes the n-th write, preallocation, truncation or sync from now on
// (1 is the next) the last: it fails with ErrCrashed, as does all that follows
// until Crash is called. What that operation did is un-synced.
func (m *Mem) ArmCrash(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.armed = m.ops + n
}

// Crashed says whether an armed crash has happened.
func (m *Mem) Crashed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.crashed
}

// Ops counts the operations at which a crash can be armed.
func (m *Mem) Ops() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// SetCapacity bounds the sum of all file lengths; growing beyond it fails with
// ENOSPC. 0 lifts the bound.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Crash loses power and comes up again: un-synced changes are lost, wholly when
// r is nil, else in part as r decides; handles and locks are dead. What is left
// is durable.
func (m *Mem) Crash(r *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life++
	m.crashed, m.armed = false, 0
	m.locks = make(map[string]bool)
	survive := 0.0
	if r != nil {
		survive = []float64{0, 0.1, 0.5, 0.9, 1}[r.IntN(5)]
	}
	m.root.crash(r, survive)
	m.used = m.root.size()
}

// op counts one write or sync and says whether the disk still works after it.
func (m *Mem) opLocked() error {
	if m.crashed {
		return ErrCrashed
	}
	m.ops++
	if m.ops == m.armed {
		m.crashed = true
		return ErrCrashed
	}
	return nil
}

func (m *Mem) growLocked(by int64) error {
	if by > 0 && m.capacity > 0 && m.used+by > m.capacity {
		return syscall.ENOSPC
	}
	m.used += by
	return nil
}

// lookup finds the directory that holds name, and what it holds there.
func (m *Mem) lookup(op, name string) (dir *memDir, base string, node memNode, err error) {
	if m.crashed {
		return nil, "", nil, &fs.PathError{Op: op, Path: name, Err: ErrCrashed}
	}
	clean := strings.TrimPrefix(path.Clean(filepath.ToSlash(name)), "/")
	if clean == "." || clean == "" {
		return nil, "", m.root, nil
	}
	parts := strings.Split(clean, "/")
	dir = m.root
	for _, p := range parts[:len(parts)-1] {
		next, ok := dir.names[p].(*memDir)
		if !ok {
			return nil, "", nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		dir = next
	}
	base = parts[len(parts)-1]
	return dir, base, dir.names[base], nil
}

func (m *Mem) open(op, name string, write bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, node, err := m.lookup(op, name)
	if err != nil {
		return nil, err
	}
	inode, ok := node.(*memInode)
	if !ok {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{m: m, inode: inode, name: name, life: m.life, write: write}, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open("open", name, false) }

// OpenWrite implements FS.
func (m *Mem) OpenWrite(name string) (File, error) { return m.open("open", name, true) }

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, node, err := m.lookup("create", name)
	if err != nil {
		return nil, err
	}
	if node != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	inode := &memInode{modified: time.Now()}
	dir.change(memChange{name: base, node: inode})
	return &memFile{m: m, inode: inode, name: name, life: m.life, write: true}, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, node, err := m.lookup("remove", name)
	if err != nil {
		return err
	}
	if node == nil || dir == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if d, ok := node.(*memDir); ok && len(d.names) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	m.used -= node.size()
	dir.change(memChange{name: base})
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, node, err := m.lookup("removeall", name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && node == nil {
		return nil
	}
	if err != nil {
		return err
	}
	if dir == nil {
		return &fs.PathError{Op: "removeall", Path: name, Err: fs.ErrInvalid}
	}
	m.used -= node.size()
	dir.change(memChange{name: base})
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldBase, node, err := m.lookup("rename", oldName)
	if err != nil {
		return err
	}
	if node == nil || from == nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	}
	to, newBase, replaced, err := m.lookup("rename", newName)
	if err != nil {
		return err
	}
	if to == nil {
		return &fs.PathError{Op: "rename", Path: newName, Err: fs.ErrInvalid}
	}
	if from == to && oldBase == newBase {
		return nil
	}
	if replaced != nil {
		m.used -= replaced.size()
	}
	if from == to {
		from.change(memChange{name: newBase, node: node}, memChange{name: oldBase})
		return nil
	}
	to.change(memChange{name: newBase, node: node})
	from.change(memChange{name: oldBase})
	return nil
}

// MkdirAll implements FS. A new directory is as un-synced as a new file: until
// SyncDir of its parent a crash takes it away with all it holds.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return &fs.PathError{Op: "mkdir", Path: name, Err: ErrCrashed}
	}
	dir := m.root
	for _, p := range strings.Split(path.Clean(filepath.ToSlash(name)), "/") {
		if p == "" || p == "." {
			continue
		}
		switch n := dir.names[p].(type) {
		case *memDir:
			dir = n
		case nil:
			d := newMemDir()
			dir.change(memChange{name: p, node: d})
			dir = d
		default:
			return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
	}
	return nil
}

// List implements FS.
func (m *Mem) List(name string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, node, err := m.lookup("list", name)
	if err != nil {
		return nil, err
	}
	d, ok := node.(*memDir)
	if !ok {
		return nil, &fs.PathError{Op: "list", Path: name, Err: fs.ErrNotExist}
	}
	names := make([]string, 0, len(d.names))
	for n := range d.names {
		names = append(names, n)
	}
	sort.Strings(names)
	return names, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, base, node, err := m.lookup("stat", name)
	if err != nil {
		return nil, err
	}
	switch n := node.(type) {
	case *memDir:
		return memInfo{name: base, dir: true}, nil
	case *memInode:
		return memInfo{name: base, size: n.size(), modified: n.modified}, nil
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, node, err := m.lookup("syncdir", name)
	if err != nil {
		return err
	}
	d, ok := node.(*memDir)
	if !ok {
		return &fs.PathError{Op: "syncdir", Path: name, Err: fs.ErrNotExist}
	}
	if err := m.opLocked(); err != nil {
		return &fs.PathError{Op: "syncdir", Path: name, Err: err}
	}
	d.sync()
	return nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: ErrCrashed}
	}
	if m.locks[name] {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: ErrLocked}
	}
	m.locks[name] = true
	return &memLock{m: m, name: name, life: m.life}, nil
}

// Free implements FS.
func (m *Mem) Free(string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return 0, ErrCrashed
	}
	if m.capacity == 0 {
		return 1 << 40, nil
	}
	return uint64(max(0, m.capacity-m.used)), nil
}

type memLock struct {
	m    *Mem
	name string
	life int
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.life == l.m.life {
		delete(l.m.locks, l.name)
	}
	l.life = -1
	return nil
}

type memInfo struct {
	name     string
	size     int64
	dir      bool
	modified time.Time
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return i.modified }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o750
	}
	return 0o640
}
