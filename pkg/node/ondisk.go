package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

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

func (f replicaFile) id() partitionID { return partitionID{f.TopicID, f.Index} }

const (
	replicaFileName = "replica.json"
	// removedSuffix marks the directory of a replica that is being removed.
	removedSuffix = ".removed"
)

func (r *replicas) writeReplicaFile(f replicaFile) error {
	dir := r.replicaDir(f.Replica)
	if err := r.fs.MkdirAll(dir); err != nil {
		return err
	}
	if _, err := r.fs.Stat(vfs.Join(dir, replicaFileName)); err == nil {
		return nil
	}
	return r.putReplicaFile(f)
}

// putReplicaFile writes it over one that may be there.
func (r *replicas) putReplicaFile(f replicaFile) error {
	name := vfs.Join(r.replicaDir(f.Replica), replicaFileName)
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
		if r.isAside(name) {
			continue
		}
		if is, err := r.isFreed(name); err != nil {
			return err
		} else if is {
			continue
		}
		number, removed := strings.CutSuffix(name, removedSuffix)
		replica, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue // not ours
		}
		if removed {
			if err := r.fs.RemoveAll(vfs.Join(r.dir, name)); err != nil {
				return fmt.Errorf("remove what is left of replica %s: %w", number, err)
			}
			continue
		}
		f, err := r.readReplicaFile(vfs.Join(r.dir, name, replicaFileName))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was made, and nothing was stored in it yet
		}
		if err != nil {
			return err
		}
		// The directory's name counts: the file in it may still have a former one.
		f.Replica = replica
		r.onDisk[replica] = f
	}
	return nil
}

func (r *replicas) readReplicaFile(name string) (rf replicaFile, err error) {
	buf, err := vfs.ReadFile(r.fs, name, 1<<16)
	if err != nil {
		return rf, err
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
	for replica, f := range r.onDisk {
		if _, deleted := v.Deleted[f.TopicID]; deleted {
			doomed[replica] = f.id()
		}
	}
	return doomed
}

// closedFormer returns the replicas on disk that are not open and that no
// assignment names, of topics that exist.
func (r *replicas) closedFormer(v *cluster.View, named map[uint64]bool) map[uint64]replicaFile {
	if v.Source == cluster.SourceNone {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	former := make(map[uint64]replicaFile)
	for replica, f := range r.onDisk {
		_, deleted := v.Deleted[f.TopicID]
		if r.open[replica] == nil && !r.aside[replica] && !r.freed[f.id()][replica] && !named[replica] && !deleted && v.Topics[f.Topic].ID == f.TopicID {
			former[replica] = f
		}
	}
	return former
}

// deleteOne removes a replica for a reason that is certain.
func (r *replicas) deleteOne(id partitionID, replica uint64, reason string, facts ...any) error {
	if err := r.closeOne(replica); err != nil {
		return fmt.Errorf("close replica %d: %w", replica, err)
	}
	if err := r.host.Drop(replica); err != nil {
		return err
	}
	// Renamed first: what a crash leaves of it is known to be rubbish.
	dir := r.replicaDir(replica)
	if err := r.fs.Rename(dir, dir+removedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove replica %d: %w", replica, err)
	}
	for _, name := range []string{dir + removedSuffix, r.asideName(replica)} {
		if err := r.fs.RemoveAll(name); err != nil {
			return fmt.Errorf("remove replica %d: %w", replica, err)
		}
	}
	r.mu.Lock()
	delete(r.onDisk, replica)
	delete(r.aside, replica)
	r.mu.Unlock()
	r.log.Info("removed a replica, "+reason, append([]any{"topic_id", id.topicID, "partition", id.index, "replica", replica}, facts...)...)
	return nil
}
