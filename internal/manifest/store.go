package manifest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

const (
	fileMagic   = "RMANIF02"
	oldMagic    = "RMANIF01" // no batches
	recordMagic = 0x4d52464e
	partMagic   = 0x5052464e // of a record within a batch
	suffix      = ".manifests"

	recordHeader = 12
	batchHead    = 9 // of a batch's body
	maxMeta      = 1 << 20
	// MaxPayload bounds one manifest, in bytes.
	MaxPayload = 64 << 20
	maxBody    = 1 + 8 + 4 + maxMeta + MaxPayload

	rewriteFloor = 4 << 20 // bytes; below this a file is not worth rewriting

	kindSnapshot = 1
	kindDrop     = 2
	kindBatch    = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrClosed is returned by every call after Close.
var ErrClosed = errors.New("manifest log is closed")

// DamageError names the place of a record that was durable and no longer checks.
type DamageError struct {
	File   string
	Offset int64 // byte in the file
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("manifest log %s is damaged at byte %d: %s", e.File, e.Offset, e.Reason)
}

// Options of Open.
type Options struct {
	FS       vfs.FS
	Dir      string // made if missing
	Identity identity.Identity
	Logger   *slog.Logger
	// OnFatal is called once when a write or fsync has failed for another
	// reason than want of space, before the caller gets the error; may be nil.
	OnFatal func(error)
}

// Store is the log of manifests. It is safe for concurrent use.
type Store struct {
	opts Options

	mu         sync.Mutex
	file       vfs.File
	generation uint64
	end        int64 // where the next record goes
	live       int64 // bytes of the records that count
	rewriteAt  int64 // the end below which a rewrite is not tried again
	latest     map[uint64]entry
	err        error // set by a failed write, or by Close: nothing more is accepted
	old        bool  // the file is of the first version

	queueMu sync.Mutex // taken alone
	queue   []*pending
	leading bool // somebody writes, or gathers
	begun   int  // snapshots that were begun and not queued
	joined  chan struct{}
}

// entry is the newest snapshot of a group, and where it lies.
type entry struct {
	meta    raft.SnapshotMeta
	offset  int64 // of the record
	size    int64 // of the record
	payload int64 // offset of the payload
}

// Open opens or begins the log in a directory.
func Open(opts Options) (*Store, error) {
	if err := opts.FS.MkdirAll(opts.Dir); err != nil {
		return nil, fmt.Errorf("open manifest log: %w", err)
	}
	s := &Store{opts: opts, latest: make(map[uint64]entry), joined: make(chan struct{}, 1)}
	names, err := opts.FS.List(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("open manifest log: %w", err)
	}
	var generations []uint64
	for _, name := range names {
		hex, ok := strings.CutSuffix(name, suffix)
		if !ok {
			if err := opts.FS.Remove(vfs.Join(opts.Dir, name)); err != nil {
				return nil, fmt.Errorf("remove left-over %s: %w", name, err)
			}
			continue
		}
		g, err := strconv.ParseUint(hex, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: not a name of a manifest log", vfs.Join(opts.Dir, name))
		}
		generations = append(generations, g) // sorted: the names have equal length
	}
	if len(generations) == 0 {
		return s, s.rewriteLocked()
	}
	s.generation = generations[len(generations)-1]
	if s.file, err = opts.FS.OpenWrite(s.path(s.generation)); err != nil {
		return nil, fmt.Errorf("open manifest log: %w", err)
	}
	if err := s.scan(); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	for _, g := range generations[:len(generations)-1] {
		if err := opts.FS.Remove(s.path(g)); err != nil {
			return nil, errors.Join(fmt.Errorf("remove old manifest log: %w", err), s.file.Close())
		}
	}
	if err := s.upgrade(); err != nil {
		return nil, errors.Join(fmt.Errorf("open manifest log: %w", err), s.file.Close())
	}
	return s, nil
}

// upgrade rewrites a log of the first version, unless there is no space: an
// older program must not take batches for a torn end.
func (s *Store) upgrade() error {
	if !s.old {
		return nil
	}
	err := s.rewriteLocked()
	if err != nil && s.err == nil {
		s.opts.Logger.Warn("disk is full: the manifest log keeps its old format", "dir", s.opts.Dir, "err", err)
		return nil
	}
	return err
}

func (s *Store) path(generation uint64) string {
	return vfs.Join(s.opts.Dir, fmt.Sprintf("%016x%s", generation, suffix))
}

// Group returns the snapshots of one group.
func (s *Store) Group(id uint64) *Snapshots { return &Snapshots{store: s, group: id} }

// Drop forgets a group, durably.
func (s *Store) Drop(id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.latest[id]
	if !ok {
		return s.err
	}
	body := make([]byte, 9)
	body[0] = kindDrop
	binary.LittleEndian.PutUint64(body[1:], id)
	if _, err := s.appendLocked(body); err != nil {
		return err
	}
	s.live -= old.size
	delete(s.latest, id)
	return s.rewriteIfWorthLocked()
}

// Close closes the file; it is idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	if s.err == nil {
		s.err = ErrClosed
	}
	return err
}

// appendLocked writes and syncs one record. Want of space leaves the log as it
// was; any other failure is final: what is on the disk is unknown then.
func (s *Store) appendLocked(body []byte) (offset int64, err error) {
	if s.err != nil {
		return 0, s.err
	}
	offset = s.end
	if _, err = s.file.WriteVAt([][]byte{recordHead(recordMagic, body), body}, offset); errors.Is(err, syscall.ENOSPC) {
		// What was written of it goes: it would look torn behind a later record.
		if terr := s.file.Truncate(offset); terr != nil {
			return 0, s.failLocked("cut what did not fit", terr)
		}
		return 0, fmt.Errorf("append to manifest log: %w", err)
	}
	if err != nil {
		return 0, s.failLocked("write", err)
	}
	if err = s.file.Sync(); err != nil {
		return 0, s.failLocked("fsync", err)
	}
	s.end += recordHeader + int64(len(body))
	return offset, nil
}

// failLocked makes an error final.
func (s *Store) failLocked(what string, err error) error {
	s.err = fmt.Errorf("manifest log in %s failed and accepts nothing more: %s: %w", s.opts.Dir, what, err)
	if s.opts.OnFatal != nil {
		s.opts.OnFatal(s.err)
	}
	return s.err
}

func recordHead(magic uint32, body []byte) []byte {
	head := make([]byte, 0, recordHeader)
	head = binary.LittleEndian.AppendUint32(head, magic)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(body)))
	return binary.LittleEndian.AppendUint32(head, crc32.Checksum(body, castagnoli))
}

func (s *Store) rewriteIfWorthLocked() error {
	if s.end < max(rewriteFloor, s.rewriteAt) || s.end < 2*s.live {
		return nil
	}
	err := s.rewriteLocked()
	if err != nil && s.err == nil {
		// Only the rewriting failed, for want of space; the record is durable.
		s.rewriteAt = s.end + rewriteFloor/4
		s.opts.Logger.Warn("disk is full: the manifest log is rewritten later", "dir", s.opts.Dir, "err", err)
		return nil
	}
	return err
}

// rewriteLocked begins the next generation with what is live. Want of space
// leaves the old one; any other failure is final.
func (s *Store) rewriteLocked() error {
	if s.err != nil {
		return s.err
	}
	switch named, err := s.rewriteTo(s.generation + 1); {
	case err == nil:
		return nil
	case !named && errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("rewrite manifest log: %w", err)
	default:
		return s.failLocked("rewrite", err)
	}
}

// rewriteTo says whether the new file may have got its name.
func (s *Store) rewriteTo(generation uint64) (named bool, err error) {
	tmp := vfs.Join(s.opts.Dir, "rewrite.tmp")
	if err := s.opts.FS.RemoveAll(tmp); err != nil {
		return false, err
	}
	f, err := s.opts.FS.Create(tmp)
	if err != nil {
		return false, err
	}
	latest, end, err := s.copyLive(f)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return false, errors.Join(err, f.Close(), s.opts.FS.Remove(tmp))
	}
	if err = s.opts.FS.Rename(tmp, s.path(generation)); err == nil {
		err = s.opts.FS.SyncDir(s.opts.Dir)
	}
	if err == nil {
		err = s.opts.FS.SyncDir(filepath.Dir(s.opts.Dir))
	}
	if err != nil {
		return true, errors.Join(err, f.Close())
	}
	old := s.file
	s.file, s.latest, s.end = f, latest, end
	s.live = 0
	for _, e := range latest {
		s.live += e.size
	}
	oldGeneration := s.generation
	s.generation, s.rewriteAt, s.old = generation, 0, false
	if old == nil {
		return true, nil
	}
	return true, errors.Join(old.Close(), s.opts.FS.Remove(s.path(oldGeneration)))
}

func (s *Store) copyLive(f vfs.File) (map[uint64]entry, int64, error) {
	head, err := fileHead(s.opts.Identity)
	if err != nil {
		return nil, 0, err
	}
	if _, err := f.WriteAt(head, 0); err != nil {
		return nil, 0, err
	}
	end := int64(len(head))
	latest := make(map[uint64]entry, len(s.latest))
	for id, e := range s.latest {
		buf := make([]byte, e.size)
		if _, err := s.file.ReadAt(buf, e.offset); err != nil {
			return nil, 0, err
		}
		if err := checkRecord(buf); err != nil {
			return nil, 0, &DamageError{File: s.file.Name(), Offset: e.offset, Reason: err.Error()}
		}
		binary.LittleEndian.PutUint32(buf, recordMagic) // it may have been part of a batch
		if _, err := f.WriteAt(buf, end); err != nil {
			return nil, 0, err
		}
		e.payload += end - e.offset
		e.offset = end
		latest[id] = e
		end += e.size
	}
	return latest, end, nil
}

func fileHead(id identity.Identity) ([]byte, error) {
	buf, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	head := append([]byte(nil), fileMagic...)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(buf)))
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(buf, castagnoli))
	return append(head, buf...), nil
}
