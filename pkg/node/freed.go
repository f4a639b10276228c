package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/vfs"
)

// A replica whose data was removed must never be opened again under its id: it
// would have forgotten its votes and what it acknowledged, and a replica that
// still knows it as a member could win an election with its vote. An assignment
// names it again all the same when a move was cancelled a moment too late, or a
// key was put back by hand. So a node writes down what it frees, before it begins
// to, and tells the winner when an assignment names it, which takes a new id.

// freedSuffix ends the name of the file, beside a replica's directory, that says
// that its data was removed, or is about to be.
const freedSuffix = ".freed"

// freedFile says whose replica it was.
type freedFile struct {
	replicaFile
	At time.Time `json:"at"`
}

func (r *replicas) freedName(replica uint64) string { return r.replicaDir(replica) + freedSuffix }

// isFreed takes the names of the replicas' directory that say what was freed.
func (r *replicas) isFreed(name string) (bool, error) {
	number, ok := strings.CutSuffix(name, freedSuffix)
	replica, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil {
		return false, nil
	}
	f, err := r.readReplicaFile(vfs.Join(r.dir, name))
	if err != nil {
		return true, err
	}
	r.noteFreed(f.id(), replica)
	return true, nil
}

func (r *replicas) noteFreed(id partitionID, replica uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.freed[id] == nil {
		r.freed[id] = make(map[uint64]bool)
	}
	r.freed[id][replica] = true
}

// writeFreed notes durably that a replica is never opened again.
func (r *replicas) writeFreed(id partitionID, topic string, replica uint64) error {
	f := freedFile{replicaFile{Topic: topic, TopicID: id.topicID, Index: id.index, Replica: replica}, r.now().UTC()}
	buf, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := vfs.WriteFileAtomic(r.fs, r.freedName(replica), append(buf, '\n')); err != nil {
		return err
	}
	r.noteFreed(id, replica)
	return nil
}

// wasFreedLocked says that a replica must not be opened. The ids of a partition's
// replicas grow: one below a freed id that is not here was freed before, or was
// never begun.
func (r *replicas) wasFreedLocked(id partitionID, replica uint64) bool {
	_, here := r.onDisk[replica]
	for freed := range r.freed[id] {
		if freed == replica || freed > replica && !here {
			return true
		}
	}
	return false
}

// pruneFreed keeps of a partition's notes the newest, which covers the older
// ones, and those of replicas that are still being removed.
func (r *replicas) pruneFreed(id partitionID) error {
	r.mu.Lock()
	var old []uint64
	var newest uint64
	for replica := range r.freed[id] {
		newest = max(newest, replica)
	}
	for replica := range r.freed[id] {
		if _, here := r.onDisk[replica]; !here && replica != newest {
			old = append(old, replica)
		}
	}
	r.mu.Unlock()
	return r.dropFreed(id, old)
}

// forgetFreed removes the notes of partitions whose topic has a tombstone:
// nothing can name their replicas any more.
func (r *replicas) forgetFreed(v *cluster.View) error {
	if len(v.Deleted) == 0 {
		return nil
	}
	notes := make(map[partitionID][]uint64)
	r.mu.Lock()
	for id, replicas := range r.freed {
		if _, deleted := v.Deleted[id.topicID]; !deleted {
			continue
		}
		for replica := range replicas {
			if _, here := r.onDisk[replica]; !here {
				notes[id] = append(notes[id], replica)
			}
		}
	}
	r.mu.Unlock()
	var errs []error
	for id, replicas := range notes {
		errs = append(errs, r.dropFreed(id, replicas))
	}
	return errors.Join(errs...)
}

func (r *replicas) dropFreed(id partitionID, notes []uint64) error {
	for _, replica := range notes {
		if err := r.fs.RemoveAll(r.freedName(replica)); err != nil {
			return fmt.Errorf("remove the note that replica %d was freed: %w", replica, err)
		}
		r.mu.Lock()
		delete(r.freed[id], replica)
		if len(r.freed[id]) == 0 {
			delete(r.freed, id)
		}
		r.mu.Unlock()
	}
	return nil
}

// halfFreed are the replicas on disk whose removal a crash or an error has
// interrupted.
func (r *replicas) halfFreed() map[uint64]partitionID {
	r.mu.Lock()
	defer r.mu.Unlock()
	half := make(map[uint64]partitionID)
	for id, replicas := range r.freed {
		for replica := range replicas {
			if _, here := r.onDisk[replica]; here {
				half[replica] = id
			}
		}
	}
	return half
}

// finishFreed removes what an interrupted removal has left.
func (r *replicas) finishFreed(id partitionID, replica uint64) error {
	if err := r.deleteOne(id, replica, "which had begun before"); err != nil {
		return err
	}
	return r.pruneFreed(id)
}

// refused are the replicas that assignments place here and that were freed.
// names are the topics by id.
func (r *replicas) refused(v *cluster.View, names map[string]string) (all []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.freed {
		a := v.Assignments[cluster.TopicPartition{Topic: names[id.topicID], Partition: id.index}]
		if a.TopicID != id.topicID {
			continue
		}
		for _, rep := range a.Replicas {
			if rep.Node == r.self && rep.Incarnation == r.incarnation && r.wasFreedLocked(id, rep.ID) {
				all = append(all, rep.ID)
			}
		}
	}
	slices.Sort(all)
	return all
}

// refuse says once that a replica is not opened again.
func (r *replicas) refuse(id partitionID, topic string, replica uint64) {
	err := fmt.Errorf("replica %d was freed here", replica)
	if r.sayOnce(id, err) {
		r.log.Error("an assignment names a replica whose data was removed from this node: it is not opened again, since it has forgotten its votes; the winner replaces it by a new one",
			"topic", topic, "partition", id.index, "replica", replica)
	}
}
