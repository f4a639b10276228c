package wal

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

const (
	boundsName  = "bounds"
	boundsMagic = 0x42574d52
	boundsFixed = 36
	boundsSize  = 2 * pageSize
)

// bounds is the file that names the oldest and the newest log file that must be
// there: a directory that lacks one at either end looks like a whole log.
//
// It has two slots, written in turn. One that is torn says what is not yet true:
// the other one counts, and is true as well.
type bounds struct {
	file  vfs.File
	id    identity.Identity
	count uint64 // of the slot written last

	oldest uint64
	newest uint64 // 0: none need be there
}

func (b *bounds) encode() ([]byte, error) {
	who, err := json.Marshal(b.id)
	if err != nil {
		return nil, err
	}
	if len(who) > pageSize-boundsFixed {
		return nil, fmt.Errorf("identity of %d bytes is too long", len(who))
	}
	p := make([]byte, boundsFixed, boundsFixed+len(who))
	le.PutUint32(p[4:], boundsMagic)
	le.PutUint64(p[8:], b.count)
	le.PutUint64(p[16:], b.oldest)
	le.PutUint64(p[24:], b.newest)
	le.PutUint32(p[32:], uint32(len(who)))
	p = append(p, who...)
	le.PutUint32(p, crc32.Checksum(p[4:], castagnoli))
	return p, nil
}

// decodeSlot reads one slot; ok says that it checks.
func (b *bounds) decodeSlot(p []byte) (ok bool, err error) {
	if len(p) < boundsFixed || le.Uint32(p[4:]) != boundsMagic {
		return false, nil
	}
	n := le.Uint32(p[32:])
	if int64(n) > int64(len(p)-boundsFixed) || crc32.Checksum(p[4:boundsFixed+n], castagnoli) != le.Uint32(p) {
		return false, nil
	}
	if err := json.Unmarshal(p[boundsFixed:boundsFixed+n], &b.id); err != nil {
		return false, err
	}
	b.count, b.oldest, b.newest = le.Uint64(p[8:]), le.Uint64(p[16:]), le.Uint64(p[24:])
	return true, nil
}

// openBounds returns nil when there is no such file.
func openBounds(fsys vfs.FS, path string, want identity.Identity) (*bounds, error) {
	f, err := fsys.OpenWrite(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open write-ahead log: %w", err)
	}
	b, err := readBounds(f, path)
	if err == nil && b.id != want {
		err = &identity.MismatchError{File: path, Have: b.id, Want: want}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return b, nil
}

func readBounds(f vfs.File, path string) (*bounds, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("open write-ahead log: %w", err)
	}
	if size != boundsSize {
		return nil, &DamageError{File: path, Reason: fmt.Sprintf("it has %d bytes, not %d", size, boundsSize)}
	}
	buf := make([]byte, boundsSize)
	if n, err := f.ReadAt(buf, 0); n < len(buf) {
		return nil, fmt.Errorf("read write-ahead log %s: %w", path, err)
	}
	var best *bounds
	for i := range 2 {
		b := &bounds{file: f}
		ok, err := b.decodeSlot(buf[i*pageSize:][:pageSize])
		if err != nil {
			return nil, &DamageError{File: path, Offset: int64(i * pageSize), Reason: "identity: " + err.Error()}
		}
		if ok && (best == nil || b.count > best.count) {
			best = b
		}
	}
	if best == nil {
		return nil, &DamageError{File: path, Reason: "neither of its slots checks"}
	}
	return best, nil
}

// createBounds makes the file anew, durably.
func createBounds(fsys vfs.FS, path string, id identity.Identity, oldest, newest uint64) (*bounds, error) {
	b := &bounds{id: id, count: 1, oldest: oldest, newest: newest}
	slot, err := b.encode()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, boundsSize)
	copy(buf[pageSize:], slot) // slot 1: count is odd
	if err := vfs.WriteFileAtomic(fsys, path, buf); err != nil {
		return nil, err
	}
	b.file, err = fsys.OpenWrite(path)
	return b, err
}

// set is durable on return. The preparer calls it, and the committer for the
// reserve, under Log.boundsMu.
func (b *bounds) set(oldest, newest uint64) error {
	next := &bounds{id: b.id, count: b.count + 1, oldest: oldest, newest: newest}
	slot, err := next.encode()
	if err != nil {
		return err
	}
	if _, err := b.file.WriteAt(slot, int64(next.count%2)*pageSize); err != nil {
		return err
	}
	if err := b.file.Sync(); err != nil {
		return err
	}
	b.count, b.oldest, b.newest = next.count, oldest, newest
	return nil
}

// mustBegin moves the oldest file that must be there; before one is released.
func (l *Log) mustBegin(oldest uint64) error {
	l.boundsMu.Lock()
	defer l.boundsMu.Unlock()
	return l.bounds.set(oldest, l.bounds.newest)
}

// mustEnd moves the newest file that must be there; before one is begun.
func (l *Log) mustEnd(newest uint64) error {
	l.boundsMu.Lock()
	defer l.boundsMu.Unlock()
	return l.bounds.set(l.bounds.oldest, newest)
}

// checkBounds opens the file and says which log file is missing. A log in which
// no file was made by a version that keeps bounds has none, or those of a version
// that an older one has followed: they are made anew once the log was read.
func (l *Log) checkBounds(set []*source) (err error) {
	path := vfs.Join(l.opts.Dir, boundsName)
	if l.bounds, err = openBounds(l.opts.FS, path, l.opts.Identity); err != nil {
		return err
	}
	kept := len(set) == 0
	for _, s := range set {
		kept = kept || s.version >= boundsVersion
	}
	if !kept {
		if l.bounds == nil {
			return nil
		}
		err := l.bounds.file.Close()
		l.bounds = nil
		return err
	}
	b := l.bounds
	if b == nil {
		if len(set) == 0 {
			return nil
		}
		return &DamageError{File: path, Reason: "the file is missing: whether log files are missing too can't be known"}
	}
	missing := func(seq uint64) error {
		return &DamageError{File: l.path(seq), Reason: fmt.Sprintf("the file is missing; %s says that %s to %s are there",
			path, fileName(b.oldest), fileName(b.newest))}
	}
	switch {
	case b.newest == 0:
		return nil
	case len(set) == 0 || set[0].seq > b.oldest:
		return missing(b.oldest)
	case set[len(set)-1].seq < b.newest:
		return missing(b.newest)
	}
	return nil
}

// adoptBounds makes bounds for a log of an earlier version, and names what is
// there and was not named before a crash.
func (l *Log) adoptBounds() (err error) {
	oldest, newest := l.files[0].seq, l.files[len(l.files)-1].seq
	if l.next != nil {
		newest = l.next.seq
	}
	if l.bounds == nil {
		l.bounds, err = createBounds(l.opts.FS, vfs.Join(l.opts.Dir, boundsName), l.opts.Identity, oldest, newest)
		return err
	}
	return l.bounds.set(max(oldest, l.bounds.oldest), newest)
}
