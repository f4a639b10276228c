package replication

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// store is a group's log and its stable values.
type store interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// sized is a store that knows how much it holds.
type sized interface {
	// Size returns the live entries and their bytes.
	Size() (entries uint64, bytes int64)
	// BytesFrom returns the bytes of the entries from index on.
	BytesFrom(index uint64) int64
}

func (h *Host) openStore(replica uint64) (store, error) {
	if h.wal != nil {
		return sharedStore{h.wal.Group(replica)}, nil
	}
	path := h.boltPath(replica)
	if err := h.cfg.FS.MkdirAll(filepath.Dir(path)); err != nil {
		return nil, err
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{NoFreelistSync: true}})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return boltStore{bolt}, nil
}

// boltPath is on the operating system's file system: bbolt maps its file.
func (h *Host) boltPath(replica uint64) string {
	return filepath.Join(h.cfg.Dir, "boltdb", fmt.Sprintf("%d.db", replica))
}

// sharedLog is what the node's write-ahead log gives to a group.
type sharedLog interface {
	raft.LogStore
	raft.StableStore
	raft.MonotonicLogStore
	sized
}

// sharedStore is a handle on the node's write-ahead log; closing it is nothing.
type sharedStore struct{ sharedLog }

func (sharedStore) Close() error { return nil }

// boltStore is raft-boltdb with a vote's term and candidate as one record: raft
// writes them one after another, and a crash between the two would leave a vote
// without its candidate (hashicorp/raft 661).
type boltStore struct{ *raftboltdb.BoltStore }

var (
	keyVoteTerm      = []byte("LastVoteTerm")
	keyVoteCandidate = []byte("LastVoteCand")
	keyVote          = []byte("Vote")
	keyPendingVote   = []byte("PendingVoteTerm")
)

// SetUint64 keeps a vote's term aside until its candidate comes: nothing reads
// the term between the two.
func (b boltStore) SetUint64(key []byte, v uint64) error {
	if string(key) == string(keyVoteTerm) {
		return b.BoltStore.SetUint64(keyPendingVote, v)
	}
	if old, err := b.BoltStore.GetUint64(key); err == nil && old == v {
		return nil
	}
	return b.BoltStore.SetUint64(key, v)
}

// Set writes a vote whole.
func (b boltStore) Set(key, v []byte) error {
	if string(key) != string(keyVoteCandidate) {
		return b.BoltStore.Set(key, v)
	}
	term, err := b.BoltStore.GetUint64(keyPendingVote)
	if err != nil {
		return fmt.Errorf("vote without a term: %w", err)
	}
	return b.BoltStore.Set(keyVote, append(binary.BigEndian.AppendUint64(nil, term), v...))
}

// GetUint64 returns the term of the durable vote, or any other number.
func (b boltStore) GetUint64(key []byte) (uint64, error) {
	if string(key) != string(keyVoteTerm) {
		return b.BoltStore.GetUint64(key)
	}
	vote, err := b.vote()
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(vote), nil
}

// Get returns the candidate of the durable vote, or any other value.
func (b boltStore) Get(key []byte) ([]byte, error) {
	if string(key) != string(keyVoteCandidate) {
		return b.BoltStore.Get(key)
	}
	vote, err := b.vote()
	if err != nil {
		return nil, err
	}
	return vote[8:], nil
}

func (b boltStore) vote() ([]byte, error) {
	vote, err := b.BoltStore.Get(keyVote)
	if err == nil && len(vote) < 8 {
		return nil, errors.New("vote is shorter than its term")
	}
	return vote, err
}

// getUint64 returns 0 for a key that was never set. Stores tell that by the
// text of their error, as raft itself does.
func getUint64(s raft.StableStore, key []byte) (uint64, error) {
	v, err := s.GetUint64(key)
	if err != nil && err.Error() == "not found" {
		return 0, nil
	}
	return v, err
}
