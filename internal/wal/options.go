package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

// ErrClosed is returned by every call after Close.
var ErrClosed = errors.New("write-ahead log is closed")

// Options of Open. FS, Dir and Identity are required.
type Options struct {
	FS       vfs.FS
	Dir      string // made if missing
	Identity identity.Identity
	Logger   *slog.Logger // default: none

	// FileSize is the length of one log file in bytes, a multiple of 4096,
	// and bounds a single entry. Default 64 MiB. Files of another size that
	// are there already stay as they are.
	FileSize int64
	// SizeLimit is what all files of the log, prepared and spare ones too, take
	// at most, in bytes (8 KiB for their bounds come on top); at least eight files for that. Well before it the log
	// copies live frames of its oldest file forward, and closer to it appends
	// wait for up to maxSlowDown each. Live entries beyond half of it are the
	// owners' to release, by snapshots (OnPressure). Default 1 GiB.
	SizeLimit int64
	// TailBytes is the memory for recent entries of all groups together.
	// Default 128 MiB; negative: none.
	TailBytes int64

	// OnPressure is called at each new file while the log takes more than half
	// of SizeLimit, and by appends that wait for room: the owners of the groups
	// with most live entries should take snapshots soon. It must not block.
	OnPressure func()
	// OnFatal is called once when a write or fsync has failed; the log accepts
	// nothing more. It runs on a goroutine of the log, before any caller gets
	// the error, and must not call Close.
	OnFatal  func(error)
	slowDown time.Duration // maxSlowDown, but in tests

	// Registerer gets the metrics raftsman_wal_*, until Close; may be nil.
	Registerer prometheus.Registerer
}

func (o *Options) validate() error {
	if o.FS == nil || o.Dir == "" {
		return errors.New("write-ahead log needs a file system and a directory")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FileSize == 0 {
		o.FileSize = 64 << 20
	}
	if o.SizeLimit == 0 {
		o.SizeLimit = 1 << 30
	}
	if o.slowDown == 0 {
		o.slowDown = maxSlowDown
	}
	if o.TailBytes == 0 {
		o.TailBytes = 128 << 20
	}
	if o.FileSize < minFile || o.FileSize > maxFile || o.FileSize%pageSize != 0 {
		return fmt.Errorf("write-ahead log: file size %d is not a multiple of %d between %d and %d", o.FileSize, pageSize, minFile, maxFile)
	}
	return nil
}

// maxRequest is what the frames of one batch may take: a file's worth.
func (o *Options) maxRequest() int64 { return o.FileSize - dataOffset - batchHead }

func (o *Options) reserveSize() int64 { return min(maxReserve, o.FileSize) }

const (
	maxReserve = 8 << 20
	retryAfter = 100 * time.Millisecond // between attempts to prepare a file on a full disk
	lowRoom    = 16 << 20               // one message of raft; see Group.DeleteRange
	flushLazy  = 256                    // removals queued before they are written by themselves
	maxSpares  = 4
)

// WriteAmplification is how many bytes were written for each that was appended.
func (s Stats) WriteAmplification() float64 {
	if s.WrittenBytes <= s.CopiedBytes {
		return 1
	}
	return float64(s.WrittenBytes) / float64(s.WrittenBytes-s.CopiedBytes)
}

// Stats says how the log is.
type Stats struct {
	Files        int    // begun, the current one included
	SizeBytes    int64  // of all files on disk, prepared and spare ones too
	LiveBytes    int64  // of frames that still count
	OldestFile   uint64 // sequence number
	CurrentFile  uint64
	Fsyncs       uint64
	WrittenBytes uint64
	CopiedBytes  uint64 // frames copied forward
	CacheBytes   int64  // recent entries in memory
	Groups       int    // with anything stored
	// PinnedBy is the group with the most live bytes among those whose entries
	// pin the oldest file; 0 when none does. A snapshot of it frees files.
	PinnedBy    uint64
	PinnedBytes int64
	Full        bool // the next file can't be prepared for want of space
}
