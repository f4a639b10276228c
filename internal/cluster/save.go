package cluster

import (
	"context"
	"fmt"
	"maps"
	"time"
)

// keepSaved writes view.json when it is behind, at most once a SaveInterval,
// and less often when a write takes long. It returns when ctx has ended.
func (s *Store) keepSaved(ctx context.Context) {
	wake, cancel := s.Subscribe()
	defer cancel()
	told := false
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-wake:
		}
		began := s.opts.Clock.Now()
		err := s.save()
		if err != nil && !told {
			s.opts.Logger.Error("the copy of the cluster's metadata can't be written: this node could not start without etcd", "err", err)
		}
		told = err != nil
		s.sleep(ctx, max(s.opts.SaveInterval, 20*s.opts.Clock.Now().Sub(began)))
	}
}

// save writes view.json if it is behind. One call at a time.
func (s *Store) save() error {
	if s.opts.Dir == "" {
		return nil
	}
	s.mu.Lock()
	if !s.dirty {
		s.mu.Unlock()
		return nil
	}
	s.dirty = false
	p := picture{memory: s.memory, items: maps.Clone(s.items)}
	s.mu.Unlock()
	if err := writePicture(s.opts.FS, s.opts.Dir, s.keys, p); err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
		return fmt.Errorf("save the view: %w", err)
	}
	return nil
}

// Close stops Run, waits for it, and writes view.json a last time.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	stop, stopped := s.stop, s.stopped
	s.mu.Unlock()
	if stop != nil {
		stop()
		<-stopped
	}
	return s.save()
}

// now is the time for values, in seconds: people read them.
func (s *Store) now() time.Time { return s.opts.Clock.Now().UTC().Truncate(time.Second) }
