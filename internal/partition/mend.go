package partition

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/internal/vfs"
)

// damagedDir holds what was set aside of a replica's segments, and what was
// fetched in its place.
const damagedDir = "damaged"

// DamagedError says that a replica can't be opened because of one segment, and
// what that segment must be.
type DamagedError struct {
	Segment seglog.SegmentInfo
	Active  bool // it is the newest segment of the manifest
	Damage  *seglog.DamageError
}

func (e *DamagedError) Error() string { return e.Damage.Error() }
func (e *DamagedError) Unwrap() error { return e.Damage }

// damagedBy tells which segment of a State an error of seglog.Open is about.
func damagedBy(err error, st seglog.State) *DamagedError {
	var damage *seglog.DamageError
	if !errors.As(err, &damage) {
		return nil
	}
	for i, info := range st.Segments {
		if info.FileName() == filepath.Base(damage.File) {
			return &DamagedError{Segment: info, Active: i == len(st.Segments)-1, Damage: damage}
		}
	}
	return nil
}

// MendClosed replaces a damaged segment of a replica that could not be opened by
// what fetch returns, if its checksum is that of the replica's own manifest. The
// damaged file is set aside in the replica's directory.
func MendClosed(fsys vfs.FS, dir string, segment seglog.SegmentInfo, fetch seglog.Fetch) error {
	return seglog.MendClosed(fsys, vfs.Join(dir, "log"), vfs.Join(dir, damagedDir), segment, fetch)
}

// StandIn makes a replica openable whose damaged, sealed segment lies below the
// group's log start by now, so that nobody has it any more.
func StandIn(fsys vfs.FS, dir string, segment seglog.SegmentInfo) error {
	return seglog.StandIn(fsys, vfs.Join(dir, "log"), vfs.Join(dir, damagedDir), segment)
}

// Mend is MendClosed for an open replica; mended is false if the segment is what
// it must be, or not needed any more. One Mend runs at a time.
func (p *Partition) Mend(segment int64, fetch seglog.Fetch) (mended bool, err error) {
	log, err := p.stored()
	if err != nil {
		return false, err
	}
	return log.Mend(segment, vfs.Join(p.cfg.Dir, damagedDir), fetch)
}

// stored is the log, whoever leads.
func (p *Partition) stored() (*seglog.Log, error) {
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	if p.broken != nil {
		return nil, p.broken
	}
	if p.log == nil {
		return nil, ErrClosed
	}
	return p.log, nil
}

// Replica is how far a replica is, whoever leads.
type Replica struct {
	Applied       uint64 // index of the last applied entry
	Start         int64  // first readable offset
	HighWatermark int64  // one after the last record that was applied
}

// Replica returns how far this replica is.
func (p *Partition) Replica() (Replica, error) {
	if _, err := p.stored(); err != nil {
		return Replica{}, err
	}
	applied := p.group.AppliedIndex()
	p.mu.Lock()
	defer p.mu.Unlock()
	return Replica{Applied: applied, Start: p.offsets.Start, HighWatermark: p.offsets.HighWatermark}, nil
}

// Digest sums up what this replica stores of a range below its high watermark.
// If the range begins below the log start, which is returned in any case, the
// Digest is empty.
func (p *Partition) Digest(r seglog.DigestRequest) (d seglog.Digest, start int64, err error) {
	log, err := p.stored()
	if err != nil {
		return d, 0, err
	}
	pin := log.Pin()
	defer func() { err = errors.Join(err, pin.Close()) }()
	st := pin.State()
	if r.From < st.Start {
		return d, st.Start, nil
	}
	if r.To > st.Next {
		return d, st.Start, fmt.Errorf("digest up to offset %d: this replica has applied all before %d only", r.To, st.Next)
	}
	d, err = pin.Digest(r)
	return d, st.Start, err
}

// Prove compares a segment with the checksum that this replica has kept of it;
// damage is empty if it matches, or if the segment is gone.
func (p *Partition) Prove(segment int64) (damage string, err error) {
	log, err := p.stored()
	if err != nil {
		return "", err
	}
	pin := log.Pin()
	defer func() { err = errors.Join(err, pin.Close()) }()
	err = pin.Prove(segment)
	var found *seglog.DamageError
	if errors.As(err, &found) {
		return found.Error(), nil
	}
	if errors.Is(err, seglog.ErrOutOfRange) {
		err = nil
	}
	return "", err
}

// ReadSegment reads part of a segment for another replica.
func (p *Partition) ReadSegment(segment int64, b []byte, off int64) (n int, err error) {
	log, err := p.stored()
	if err != nil {
		return 0, err
	}
	pin := log.Pin()
	defer func() { err = errors.Join(err, pin.Close()) }()
	return pin.ReadAt(segment, b, off)
}

// Segment describes the segment that begins at base; nothing if there is none.
func (p *Partition) Segment(base int64) (info seglog.SegmentInfo) {
	log, err := p.stored()
	if err != nil {
		return info
	}
	for _, s := range log.OldestSegments() {
		if s.Base == base {
			info = s
		}
	}
	return info
}

// SegmentFile is the name of a segment's file in a replica's directory.
func SegmentFile(dir string, segment, generation int64) string {
	return vfs.Join(dir, "log", seglog.FileName(segment, generation))
}
