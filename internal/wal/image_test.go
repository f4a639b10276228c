package wal

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// A trace is every change of a disk, in order, with marks of the test between
// them. From it the disk is made as a crash may leave it at any place.
type trace struct {
	mu    sync.Mutex
	ops   []change
	inode map[string]int
	files int
}

type changeKind int

const (
	created changeKind = iota
	renamed
	removed
	resized
	wrote
	synced
	syncedDir
	marked
)

type change struct {
	kind     changeKind
	inode    int
	name, to string // wrote: to is the name that the file was opened by
	size     int64  // resized; shrinks if to is "cut"
	off      int64  // wrote
	data     []byte
	mark     func(*expected) // marked
}

func (tr *trace) add(c change) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.ops = append(tr.ops, c)
}

// note changes what is expected of the log from here on.
func (tr *trace) note(mark func(*expected)) { tr.add(change{kind: marked, mark: mark}) }

// tracedFS writes a trace.
type tracedFS struct {
	vfs.FS
	tr *trace
}

type tracedFile struct {
	vfs.File
	tr    *trace
	inode int // 0: it was there before
}

func newTraced(fsys vfs.FS) *tracedFS {
	return &tracedFS{FS: fsys, tr: &trace{inode: make(map[string]int)}}
}

func (f *tracedFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	if err != nil {
		return nil, err
	}
	f.tr.mu.Lock()
	defer f.tr.mu.Unlock()
	f.tr.files++
	f.tr.inode[name] = f.tr.files
	f.tr.ops = append(f.tr.ops, change{kind: created, inode: f.tr.files, name: name})
	return &tracedFile{file, f.tr, f.tr.files}, nil
}

func (f *tracedFS) OpenWrite(name string) (vfs.File, error) {
	file, err := f.FS.OpenWrite(name)
	if err != nil {
		return nil, err
	}
	f.tr.mu.Lock()
	defer f.tr.mu.Unlock()
	return &tracedFile{file, f.tr, f.tr.inode[name]}, nil
}

func (f *tracedFS) Rename(from, to string) error {
	f.tr.mu.Lock()
	f.tr.inode[to] = f.tr.inode[from]
	delete(f.tr.inode, from)
	f.tr.ops = append(f.tr.ops, change{kind: renamed, name: from, to: to})
	f.tr.mu.Unlock()
	return f.FS.Rename(from, to)
}

func (f *tracedFS) Remove(name string) error {
	f.tr.add(change{kind: removed, name: name})
	return f.FS.Remove(name)
}

func (f *tracedFS) SyncDir(dir string) error {
	err := f.FS.SyncDir(dir)
	f.tr.add(change{kind: syncedDir})
	return err
}

func (f *tracedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.WriteVAt([][]byte{p}, off)
	return int(n), err
}

func (f *tracedFile) WriteVAt(bufs [][]byte, off int64) (int64, error) {
	f.tr.add(change{kind: wrote, inode: f.inode, to: f.Name(), off: off, data: bytes.Join(bufs, nil)})
	return f.File.WriteVAt(bufs, off)
}

func (f *tracedFile) Sync() error {
	f.tr.mu.Lock()
	upTo := len(f.tr.ops) // what is written while it syncs need not be covered
	f.tr.mu.Unlock()
	err := f.File.Sync()
	f.tr.add(change{kind: synced, inode: f.inode, size: int64(upTo)})
	return err
}

func (f *tracedFile) Preallocate(size int64) error {
	f.tr.add(change{kind: resized, inode: f.inode, size: size})
	return f.File.Preallocate(size)
}

func (f *tracedFile) Truncate(size int64) error {
	f.tr.add(change{kind: resized, inode: f.inode, size: size, to: "cut"})
	return f.File.Truncate(size)
}

// image is a disk: the files by name and their bytes.
type image struct {
	names map[string]int
	data  map[int][]byte
}

func newImage() *image { return &image{names: make(map[string]int), data: make(map[int][]byte)} }

func (m *image) clone() *image {
	c := &image{names: maps.Clone(m.names), data: make(map[int][]byte, len(m.data))}
	for i, b := range m.data {
		c.data[i] = slices.Clone(b)
	}
	return c
}

func (m *image) apply(c change) {
	switch c.kind {
	case created:
		m.names[c.name] = c.inode
		m.data[c.inode] = nil
	case renamed:
		m.names[c.to] = m.names[c.name]
		delete(m.names, c.name)
	case removed:
		delete(m.names, c.name)
	case resized:
		b := m.data[c.inode]
		if n := int(c.size); n < len(b) && c.to == "cut" {
			m.data[c.inode] = b[:n]
		} else if n > len(b) {
			m.data[c.inode] = append(b, make([]byte, n-len(b))...)
		}
	case wrote:
		m.land(c, 0, len(c.data))
	}
}

// land puts the bytes [from, to) of a write into its file.
func (m *image) land(c change, from, to int) {
	b := m.data[c.inode]
	if end := int(c.off) + to; end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[int(c.off)+from:], c.data[from:to])
	m.data[c.inode] = b
}

// disk makes a file system of the image.
func (m *image) disk(t testing.TB, dir string) *vfs.Mem {
	t.Helper()
	d := newMem(t)
	must(t, d.MkdirAll(dir))
	must(t, d.SyncDir("/data"))
	for name, inode := range m.names {
		f, err := d.Create(name)
		must(t, err)
		_, err = f.WriteAt(m.data[inode], 0)
		must(t, err)
		must(t, f.Sync())
		must(t, f.Close())
	}
	must(t, d.SyncDir(dir))
	return d
}

// player goes through a trace. cache is the disk with everything that was
// written, sure only what was synced: a crash leaves something in between.
type player struct {
	cache, sure *image
	old         map[int]bool // inodes that were log files before and may be used again
	want        expected
	pending     map[int][]int // unsynced writes of each inode, by place in the trace
	ops         []change
}

func newPlayer(tr *trace) *player {
	return &player{cache: newImage(), sure: newImage(), old: make(map[int]bool), pending: make(map[int][]int), ops: tr.ops, want: newExpected()}
}

// next takes in the change at place i.
func (p *player) next(i int) {
	c := p.ops[i]
	p.cache.apply(c)
	switch c.kind {
	case created:
		p.sure.data[c.inode] = nil
	case wrote, resized:
		p.pending[c.inode] = append(p.pending[c.inode], i)
	case synced:
		left := p.pending[c.inode][:0]
		for _, j := range p.pending[c.inode] {
			if int64(j) < c.size {
				p.sure.apply(p.ops[j])
			} else {
				left = append(left, j)
			}
		}
		p.pending[c.inode] = left
	case syncedDir:
		p.sure.names = maps.Clone(p.cache.names)
	case renamed:
		if c.to != "" && p.cache.names[c.to] > 0 && bytes.HasSuffix([]byte(c.name), []byte(fileSuffix)) {
			p.old[p.cache.names[c.to]] = true
		}
	case marked:
		c.mark(&p.want)
	}
}
