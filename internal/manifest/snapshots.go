package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// Snapshots is the raft.SnapshotStore of one group. It lists at most one
// snapshot, the newest: raft removes or opens none that is gone.
type Snapshots struct {
	store *Store
	group uint64
}

var _ raft.SnapshotStore = (*Snapshots)(nil)

// List returns the newest snapshot, or nothing.
func (s *Snapshots) List() ([]*raft.SnapshotMeta, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	e, ok := s.store.latest[s.group]
	if !ok {
		return nil, nil
	}
	meta := e.meta
	return []*raft.SnapshotMeta{&meta}, nil
}

// Open returns the manifest of the newest snapshot, if it still is the one
// with this id.
func (s *Snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	e, ok := s.store.latest[s.group]
	if !ok || e.meta.ID != id {
		return nil, nil, fmt.Errorf("snapshot %s of group %d was replaced", id, s.group)
	}
	if s.store.file == nil {
		return nil, nil, ErrClosed
	}
	buf := make([]byte, e.size)
	if _, err := s.store.file.ReadAt(buf, e.offset); err != nil {
		return nil, nil, fmt.Errorf("read snapshot %s of group %d: %w", id, s.group, err)
	}
	if err := checkRecord(buf); err != nil {
		return nil, nil, &DamageError{File: s.store.file.Name(), Offset: e.offset, Reason: err.Error()}
	}
	meta := e.meta
	return &meta, io.NopCloser(bytes.NewReader(buf[e.payload-e.offset:])), nil
}

// Create begins a snapshot. It counts once its sink was closed.
func (s *Snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("snapshot version %d is unknown", version)
	}
	s.store.begin(1)
	return &sink{snapshots: s, meta: raft.SnapshotMeta{
		Version:            version,
		ID:                 fmt.Sprintf("%d-%d", term, index),
		Index:              index,
		Term:               term,
		Configuration:      configuration,
		ConfigurationIndex: configurationIndex,
	}}, nil
}

// sink gathers one manifest in memory.
type sink struct {
	snapshots *Snapshots
	meta      raft.SnapshotMeta
	buf       bytes.Buffer
	done      bool
}

var errTooLarge = fmt.Errorf("manifest is larger than %d bytes", MaxPayload)

func (s *sink) ID() string { return s.meta.ID }

func (s *sink) Write(p []byte) (int, error) {
	if s.done {
		return 0, errors.New("snapshot is closed")
	}
	if s.buf.Len()+len(p) > MaxPayload {
		return 0, errTooLarge
	}
	return s.buf.Write(p)
}

// Close makes the snapshot durable and the only one that is listed.
func (s *sink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	s.snapshots.store.begin(-1)
	s.meta.Size = int64(s.buf.Len())
	if err := s.snapshots.store.put(s.snapshots.group, s.meta, s.buf.Bytes()); err != nil {
		return fmt.Errorf("store snapshot %s of group %d: %w", s.meta.ID, s.snapshots.group, err)
	}
	return nil
}

// Cancel forgets the snapshot.
func (s *sink) Cancel() error {
	if !s.done {
		s.snapshots.store.begin(-1)
	}
	s.done = true
	s.buf.Reset()
	return nil
}
