package seglog

import (
	"errors"
	"fmt"
)

// SyncTo returns when every byte that st names is in its file and fsynced, and
// the files' names are durable. st came from State of this log, or was given
// to Open; segments that RemoveObsolete has removed since are an error.
func (l *Log) SyncTo(st State) error {
	defer l.tell()
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	segs, dirty, err := l.unsynced(st)
	if err != nil {
		return fmt.Errorf("sync segments in %s: %w", l.dir, err)
	}
	if dirty {
		l.w.syncing <- struct{}{} // a few at a time: a write around the cache holds a thread
		_, err := l.flush(true, false)
		<-l.w.syncing
		if err != nil {
			return err
		}
		if err := l.alive(); err != nil {
			return err // flush does nothing then
		}
	}
	r, upTo := l.syncRequest(segs)
	if len(segs) > 0 {
		if err := l.w.sync(l.fs, r); err != nil {
			return l.failSync(fmt.Errorf("sync segments in %s: %w", l.dir, err))
		}
	}
	l.mu.Lock()
	for i, s := range segs {
		s.synced, s.named = upTo[i], true
	}
	l.mu.Unlock()
	return l.closeSynced(segs)
}

// unsynced returns the segments of st that need an fsync; dirty says that not
// all of it is in files yet.
func (l *Log) unsynced(st State) (segs []*segment, dirty bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.alive(); err != nil {
		return nil, false, err
	}
	byKey := make(map[segmentKey]*segment, len(l.stale)+len(l.segs))
	for _, s := range l.stale {
		byKey[s.segmentKey] = s
	}
	for _, s := range l.segs {
		byKey[s.segmentKey] = s
	}
	for _, info := range st.Segments {
		s := byKey[info.key()]
		if s == nil {
			return nil, false, fmt.Errorf("state names segment %d, which does not exist", info.Base)
		}
		if s.bytes < info.Bytes {
			return nil, false, fmt.Errorf("state names %d bytes of segment %d, which has %d", info.Bytes, info.Base, s.bytes)
		}
		if s.synced < info.Bytes || !s.named {
			segs = append(segs, s)
			dirty = dirty || s.written < info.Bytes
		}
	}
	return segs, dirty, nil
}

// syncRequest names what has to be durable for segs to be, up to the positions
// that it returns. The files stay open: syncMu is held.
func (l *Log) syncRequest(segs []*segment) (r *syncRequest, upTo []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r = &syncRequest{}
	for _, s := range segs {
		upTo = append(upTo, s.written)
		if s.file != nil { // else nothing was written since the last sync
			r.files = append(r.files, s.file)
		}
		if !s.named {
			r.dir = l.dir
		}
	}
	return r, upTo
}

func (l *Log) failSync(err error) error {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	l.kill(err)
	return err
}

// closeSynced closes the files that nothing will be written to soon: sealed
// ones, and that of an idle log.
func (l *Log) closeSynced(segs []*segment) (err error) {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	for _, s := range segs {
		l.mu.Lock()
		done := s.synced == s.written && s.written == s.bytes && (s.sealed || l.cur == nil)
		l.mu.Unlock()
		if done {
			err = errors.Join(err, s.closeFiles())
		}
	}
	return err
}
