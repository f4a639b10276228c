package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/vfs"
)

// replicaFile says in a replica's directory whose data it is, so that a node
// that was away while a topic was deleted can still tell.
type replicaFile struct {
	Topic   string `json:"topic"`
	TopicID string `json:"topic_id"`
	Index   int32  `json:"partition"`
	Replica uint64 `json:"replica"`
}

const replicaFileName = "replica.json"

func (r *replicas) writeReplicaFile(f replicaFile) error {
	dir := r.replicaDir(f.Replica)
	if err := r.fs.MkdirAll(dir); err != nil {
		return err
	}
	name := vfs.Join(dir, replicaFileName)
	if _, err := r.fs.Stat(name); err == nil {
		return nil
	}
	buf, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := vfs.WriteFileAtomic(r.fs, name, append(buf, '\n')); err != nil {
		return err
	}
	return r.fs.SyncDir(r.dir)
}

// scan finds the replicas that are on disk.
func (r *replicas) scan() error {
	if err := r.fs.MkdirAll(r.dir); err != nil {
		return err
	}
	names, err := r.fs.List(r.dir)
	if err != nil {
		return fmt.Errorf("list replicas: %w", err)
	}
	for _, name := range names {
		if _, err := strconv.ParseUint(name, 10, 64); err != nil {
			continue // not ours
		}
		f, err := r.readReplicaFile(vfs.Join(r.dir, name, replicaFileName))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was made, and nothing was stored in it yet
		}
		if err != nil {
			return err
		}
		r.onDisk[f.Replica] = partitionID{f.TopicID, f.Index}
	}
	return nil
}

func (r *replicas) readReplicaFile(name string) (rf replicaFile, err error) {
	f, err := r.fs.Open(name)
	if err != nil {
		return rf, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return rf, err
	}
	if size > 1<<16 {
		return rf, fmt.Errorf("%s: %d bytes are too many", name, size)
	}
	buf := make([]byte, size)
	if _, err := f.ReadAt(buf, 0); err != nil {
		return rf, fmt.Errorf("read %s: %w", name, err)
	}
	if err := json.Unmarshal(buf, &rf); err != nil {
		return rf, fmt.Errorf("%s: %w", name, err)
	}
	return rf, nil
}

// doomed returns the replicas on disk whose topic has a tombstone.
func (r *replicas) doomed(v *cluster.View) map[uint64]partitionID {
	if len(v.Deleted) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	doomed := make(map[uint64]partitionID)
	for replica, id := range r.onDisk {
		if _, deleted := v.Deleted[id.topicID]; deleted {
			doomed[replica] = id
		}
	}
	return doomed
}
