package partition

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/seglog"
)

// Manifest is a partition's raft snapshot, as JSON.
type Manifest struct {
	Version      int             `json:"version"`
	Log          seglog.State    `json:"log"`
	Epoch        int32           `json:"epoch"` // of the last leader that began
	Epochs       epochs          `json:"epochs"`
	Producers    []producerState `json:"producers,omitempty"`
	ExpiredID    int64           `json:"expired_producer_id"` // the highest; -1 is none
	Reached      [2]int64        `json:"reached"`             // epoch and generation of the assignment
	SegmentBytes int64           `json:"segment_bytes"`
	ActiveSince  int64           `json:"active_since,omitempty"` // ms: when the active segment was begun
	// Compactions were decided and not carried out yet, oldest first. CompactSeq is
	// the number of the last that was decided.
	Compactions []Compaction `json:"compactions,omitempty"`
	CompactSeq  int64        `json:"compact_seq,omitempty"`
	// Refill is set while the partition is filled from a backup, and says from which.
	Refill int64 `json:"refill,omitempty"`
}

const (
	// manifestVersion 2 has generations of segments and compactions, 3 a refill. A
	// manifest without any is written as version 1, which older programs read.
	manifestVersion = 3
	maxManifest     = 64 << 20 // bytes
)

// versioned gives a manifest the lowest version that tells all that is in it.
func (m Manifest) versioned() Manifest {
	switch {
	case m.Refill != 0:
		m.Version = manifestVersion
	case m.Log.Plain() && m.CompactSeq == 0:
		m.Version = 1
	default:
		m.Version = 2
	}
	return m
}

// DecodeManifest reads a partition's raft snapshot.
func DecodeManifest(b []byte) (m Manifest, err error) {
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}
	if m.Version < 1 || m.Version > manifestVersion {
		return m, fmt.Errorf("manifest has version %d, this program knows %d: run a newer one", m.Version, manifestVersion)
	}
	if m.SegmentBytes <= 0 || m.Log.Start < 0 || m.Log.Next < m.Log.Start {
		return m, fmt.Errorf("manifest: log start %d, next offset %d and segment bytes %d do not fit", m.Log.Start, m.Log.Next, m.SegmentBytes)
	}
	if m.Refill < 0 {
		return m, fmt.Errorf("manifest: refill %d does not fit", m.Refill)
	}
	last := m.Log.Compacted.Seq
	for _, c := range m.Compactions {
		if c.Seq <= last || c.Seq > m.CompactSeq || c.UpTo < 0 || c.SegmentBytes <= 0 {
			return m, fmt.Errorf("manifest: compaction %+v does not fit", c)
		}
		last = c.Seq
	}
	return m, nil
}

// snapshot is a captured manifest and the log that must be on disk for it.
type snapshot struct {
	manifest Manifest
	log      *seglog.Log
	sweep    func() error
}

// Persist makes the named segments durable, then the manifest, and only then
// lets go of segments that it no longer names.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	err := s.persist(sink)
	if err != nil {
		_ = sink.Cancel()
		return err
	}
	if err := sink.Close(); err != nil {
		return err
	}
	return errors.Join(s.log.RemoveObsolete(s.manifest.Log), s.sweep())
}

func (s *snapshot) persist(sink raft.SnapshotSink) error {
	if err := s.log.SyncTo(s.manifest.Log); err != nil {
		return fmt.Errorf("sync segments: %w", err)
	}
	b, err := json.Marshal(&s.manifest)
	if err != nil {
		return err
	}
	_, err = sink.Write(b)
	return err
}

// Release has nothing to give back.
func (s *snapshot) Release() {}
