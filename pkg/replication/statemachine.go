package replication

import (
	"context"
	"io"

	"github.com/hashicorp/raft"
)

// StateMachine is what a group replicates. Apply must be deterministic: it may
// read nothing but its own state and the entries, no clock above all.
type StateMachine interface {
	// ApplyBatch applies committed entries in order and returns one response
	// for each. Entries of type raft.LogConfiguration may be among them; their
	// response is ignored. The entries' bytes are shared with the log and with
	// slow followers: they are read only, and may be kept.
	ApplyBatch(entries []*raft.Log) []any
	// Snapshot captures the state quickly; what takes long belongs into its
	// Persist, which runs beside further applies.
	Snapshot() (raft.FSMSnapshot, error)
	// Restore replaces the state by a manifest's. It is called at start, and
	// when the group installs a snapshot of its leader.
	Restore(manifest io.ReadCloser) error
}

// Stager is a StateMachine whose manifests name files.
type Stager interface {
	// Stage fetches what the manifest names and this replica lacks, beside the
	// live state, durably. It may be cut off at any time and called again, with
	// the same manifest or another one: it resumes. Restore of that manifest
	// then needs no data from elsewhere. One call runs at a time; progress is
	// told how many of the manifest's bytes are there.
	Stage(ctx context.Context, manifest []byte, fetch Fetch, progress func(done, total int64)) error
	// Staged returns nil if Restore of the manifest would find all it needs. It
	// is asked before a leader's manifest becomes this replica's, quickly, and
	// nothing is staged from then on until Restore.
	Staged(manifest []byte) error
	// Source opens the files of a manifest for a follower's Stage; they stay
	// readable until it is closed.
	Source(manifest []byte) (Source, error)
}

// Fetch reads part of a file that the leader's manifest names. It returns as
// ReadAt does; a short read without an error does not happen.
type Fetch func(file int64, p []byte, off int64) (int, error)

// Source serves Fetch on the leader's side.
type Source interface {
	ReadAt(file int64, p []byte, off int64) (int, error)
	// Held is how many bytes exist only because sources hold them.
	Held() int64
	io.Closer
}

// fsm is the StateMachine as raft wants it.
type fsm struct {
	StateMachine
	group *Group
}

var _ raft.BatchingFSM = fsm{}

func (f fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch also has followers that are read from told.
func (f fsm) ApplyBatch(entries []*raft.Log) []any {
	responses := f.StateMachine.ApplyBatch(entries)
	f.group.tellReaders()
	return responses
}

// Snapshot marks what it persists as the replica's own: its files are live.
func (f fsm) Snapshot() (raft.FSMSnapshot, error) {
	s, err := f.StateMachine.Snapshot()
	if err != nil {
		return nil, err
	}
	return ownSnapshot{s}, nil
}

type ownSnapshot struct{ raft.FSMSnapshot }

func (s ownSnapshot) Persist(sink raft.SnapshotSink) error {
	if r, ok := sink.(*recordedSink); ok {
		r.own = true
	}
	return s.FSMSnapshot.Persist(sink)
}

// Restore also ends the time in which nothing may be staged.
func (f fsm) Restore(manifest io.ReadCloser) error {
	defer f.group.receiving.installed()
	return f.StateMachine.Restore(manifest)
}
