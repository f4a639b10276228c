package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/raftsman/raftsman/internal/vfs"
)

// Open cuts the directory to st, which a SyncTo or Adopt has made durable, and
// opens the log there. Segments and bytes beyond st are removed: raft replays
// them. A file that is missing, shorter, or (the active one) not what st says,
// is a DamageError; nothing is changed by then but what lies beyond st.
func Open(opts Options, st State) (*Log, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, fmt.Errorf("open segments: %w", err)
	}
	if err := st.Validate(); err != nil {
		return nil, fmt.Errorf("open segments in %s: %w", opts.Dir, err)
	}
	l := &Log{
		fs: opts.FS, dir: opts.Dir, logger: opts.Logger, w: opts.Writer, onFatal: opts.OnFatal, onDamage: opts.OnDamage,
		segmentBytes: opts.SegmentBytes, interval: int64(opts.IndexInterval),
		start: st.Start, next: st.Next, epoch: minEpoch, compacted: st.Compacted, ended: make(chan struct{}),
	}
	if err := makeDir(l.fs, l.dir); err != nil {
		return nil, fmt.Errorf("open segments: %w", err)
	}
	if err := cutNames(l.fs, l.dir, st); err != nil {
		return nil, fmt.Errorf("open segments: %w", err)
	}
	for i, info := range st.Segments {
		s := l.newSegment(info.key())
		s.bytes, s.crc, s.maxTime, s.last, s.horizon = info.Bytes, info.CRC, info.MaxTimestamp, info.LastOffset, info.DeleteHorizon
		s.written, s.synced, s.named, s.sealed = info.Bytes, info.Bytes, true, st.Sealed || i < len(st.Segments)-1
		if err := cutLength(l.fs, s.name, info.Bytes); err != nil {
			return nil, fmt.Errorf("open segments: %w", err)
		}
		if !s.sealed {
			if err := l.openActive(s, info); err != nil {
				return nil, fmt.Errorf("open segments: %w", err)
			}
		}
		l.segs = append(l.segs, s)
	}
	return l, nil
}

func (l *Log) openActive(s *segment, info SegmentInfo) error {
	f, err := l.fs.Open(s.name)
	if err != nil {
		return err
	}
	defer f.Close()
	s.entries, l.epoch, err = scanFile(f, s.name, info, l.interval)
	l.unwritten = append(l.unwritten, s)
	return err
}

// makeDir makes dir, durably if it is new. Its parents are their owner's.
func makeDir(fsys vfs.FS, dir string) error {
	if _, err := fsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}

// cutNames removes the segments that st does not name, and the indexes of
// those and of the active one.
func cutNames(fsys vfs.FS, dir string, st State) error {
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	sealed := make(map[segmentKey]bool, len(st.Segments))
	for i, info := range st.Segments {
		sealed[info.key()] = st.Sealed || i < len(st.Segments)-1
	}
	for _, name := range names {
		key, index, ok := parseName(name)
		if !ok {
			continue
		}
		if hasIndex, named := sealed[key]; named && (!index || hasIndex) {
			continue
		}
		if err := fsys.Remove(vfs.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// cutLength truncates a file that is too long; one that is too short is damage.
func cutLength(fsys vfs.FS, name string, bytes int64) error {
	info, err := fsys.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &DamageError{File: name, Reason: "the file is missing"}
	case err != nil:
		return err
	case info.Size() < bytes:
		return &DamageError{File: name, Offset: info.Size(), Reason: fmt.Sprintf("the file ends here, wanted %d bytes", bytes)}
	case info.Size() == bytes:
		return nil
	}
	f, err := fsys.OpenWrite(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(bytes), f.Close())
}
