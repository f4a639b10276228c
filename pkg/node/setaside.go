package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/vfs"
)

// When a partition began anew without its lost majority (docs/adr/0011), the
// replicas of the former group are set aside: never opened again, whatever a
// later view says, and kept, for they may hold records that the new group lacks.
// The survivor's data goes to its new id.

// asideSuffix ends the name of the file, beside a replica's directory, that
// sets it aside.
const asideSuffix = ".set-aside"

// asideFile says why a replica is set aside, for people: that it exists counts.
type asideFile struct {
	replicaFile
	Into uint64    `json:"recovered_into"` // the replica that the partition began anew as
	At   time.Time `json:"at"`
}

func (r *replicas) asideName(replica uint64) string { return r.replicaDir(replica) + asideSuffix }

// isAside takes the names of the replicas' directory that are no replicas.
func (r *replicas) isAside(name string) bool {
	number, ok := strings.CutSuffix(name, asideSuffix)
	replica, err := strconv.ParseUint(number, 10, 64)
	if ok && err == nil {
		r.aside[replica] = true
	}
	return ok && err == nil
}

// retire notes replicas that a peer says are given up.
func (r *replicas) retire(id partitionID, former []uint64, into uint64) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, replica := range former {
		if of, here := r.onDisk[replica]; here && of.id() == id && !r.aside[replica] {
			r.retired[replica], news = into, true
		}
	}
	return news
}

// givenUp are this node's replicas of a partition that are to be set aside, with
// what the partition began anew as.
func (r *replicas) givenUp(id partitionID, a cluster.Assignment) map[uint64]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.Recovered == nil && len(r.retired) == 0 {
		return nil
	}
	up := make(map[uint64]uint64)
	for replica, into := range r.retired {
		if of, here := r.onDisk[replica]; here && of.id() == id && !r.aside[replica] {
			up[replica] = into
		}
	}
	if a.Recovered != nil {
		for _, replica := range a.Recovered.GivenUp {
			if of, here := r.onDisk[replica]; here && of.id() == id && !r.aside[replica] {
				up[replica] = a.Recovered.Into
			}
		}
	}
	return up
}

// setAside closes the replicas, if they are open, and sets them aside.
func (r *replicas) setAside(id partitionID, topic string, up map[uint64]uint64) error {
	for replica, into := range up {
		if err := r.closeOne(replica); err != nil {
			return fmt.Errorf("close replica %d: %w", replica, err)
		}
		if err := r.writeAside(id, topic, replica, into); err != nil {
			return fmt.Errorf("set replica %d aside: %w", replica, err)
		}
		r.log.Warn("a replica is set aside: an operator gave its group up, a majority of which was lost; its data is kept and not served",
			"topic", topic, "partition", id.index, "replica", replica, "recovered_into", into, "dir", r.replicaDir(replica))
	}
	return nil
}

// closeOne closes a replica, if it is open.
func (r *replicas) closeOne(replica uint64) error {
	if o := r.drop(replica); o != nil {
		return o.p.Close()
	}
	return nil
}

func (r *replicas) writeAside(id partitionID, topic string, replica, into uint64) error {
	r.mu.Lock()
	is := r.aside[replica]
	r.mu.Unlock()
	if is {
		return nil
	}
	f := asideFile{replicaFile{Topic: topic, TopicID: id.topicID, Index: id.index, Replica: replica}, into, r.now().UTC()}
	buf, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := vfs.WriteFileAtomic(r.fs, r.asideName(replica), append(buf, '\n')); err != nil {
		return err
	}
	r.mu.Lock()
	r.aside[replica] = true
	delete(r.retired, replica)
	r.mu.Unlock()
	return nil
}

// inherit gives the data of the survivor of a lost majority to its new id. It
// is repeated until it was completed once; the survivor is closed and set aside
// by then (givenUp).
func (r *replicas) inherit(id partitionID, topic string, note *cluster.Recovery, settings partition.Settings) error {
	done, err := r.host.Inherited(note.Into)
	if err != nil {
		return err
	}
	if !done {
		if err := r.handDown(id, topic, note, settings); err != nil {
			return err
		}
		if err := r.host.Inherit(note.From, note.Into, note.Term); err != nil {
			return err
		}
		r.log.Warn("the partition begins anew from this replica, as an operator decided: what its lost majority had acknowledged and this replica had not is lost",
			"topic", topic, "partition", id.index, "survivor", note.From, "replica", note.Into, "last_index", note.LastIndex)
	}
	if r.host.Holds(note.From) {
		return r.host.Drop(note.From)
	}
	return nil
}

// handDown settles the survivor's data and makes its directory the new id's.
func (r *replicas) handDown(id partitionID, topic string, note *cluster.Recovery, settings partition.Settings) error {
	from, into := r.replicaDir(note.From), r.replicaDir(note.Into)
	there, err := r.exists(from)
	if err != nil {
		return err
	}
	moved, err := r.exists(into)
	switch {
	case err != nil:
		return err
	case there == moved:
		return fmt.Errorf("%s: exists %t, %s: exists %t; one of them must hold the data of the replica that survived", from, there, into, moved)
	case there:
		if err := partition.Settle(r.partitionConfig(replicaFile{Topic: topic, TopicID: id.topicID, Index: id.index, Replica: note.From}, settings), note.Into); err != nil {
			return withRemedy(err)
		}
		if err := r.fs.Rename(from, into); err != nil {
			return err
		}
	}
	if err := r.fs.SyncDir(r.dir); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.onDisk, note.From)
	r.mu.Unlock()
	return r.putReplicaFile(replicaFile{Topic: topic, TopicID: id.topicID, Index: id.index, Replica: note.Into})
}

func (r *replicas) exists(name string) (bool, error) {
	_, err := r.fs.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// recoveredMessage tells a peer of replicas that were given up: one that returns
// while etcd is away does not know.
type recoveredMessage struct {
	Partitions []recoveredRecord `json:"partitions"`
}

type recoveredRecord struct {
	TopicID    string   `json:"topic_id"`
	Index      int32    `json:"partition"`
	Epoch      int64    `json:"epoch"`
	Generation int64    `json:"generation"`
	GivenUp    []uint64 `json:"given_up"`
	Into       uint64   `json:"into"`
}

// maxRecovered in one message, so that it stays far below a frame's bound.
const maxRecovered = 500

// tellRecovered tells a peer that came up which groups were given up.
func (n *Node) tellRecovered(peer int32) {
	var records []recoveredRecord
	for tp, a := range n.store.View().Assignments {
		if a.Recovered != nil {
			records = append(records, recoveredRecord{a.TopicID, tp.Partition, a.Epoch, a.Generation, a.Recovered.GivenUp, a.Recovered.Into})
		}
	}
	for part := range slices.Chunk(records, maxRecovered) {
		msg, err := json.Marshal(recoveredMessage{part})
		if err != nil {
			panic(fmt.Sprintf("BUG: encode recovered partitions: %v", err)) // plain numbers and strings
		}
		n.host.Net().Send(peer, byte(kindRecovered), msg)
	}
}

// hearRecovered sets aside what a peer knows to be given up, unless this node
// knows a later assignment.
func (n *Node) hearRecovered(from int32, msg []byte) ([]byte, error) {
	var m recoveredMessage
	if err := json.Unmarshal(msg, &m); err != nil {
		return nil, fmt.Errorf("recovered partitions from node %d: %w", from, err)
	}
	v, news := n.store.View(), false
	for _, rec := range m.Partitions {
		name, _, _ := v.TopicByID(rec.TopicID)
		own := v.Assignments[cluster.TopicPartition{Topic: name, Partition: rec.Index}]
		if own.Epoch > rec.Epoch || own.Epoch == rec.Epoch && own.Generation >= rec.Generation {
			continue
		}
		news = n.replicas.retire(partitionID{rec.TopicID, rec.Index}, rec.GivenUp, rec.Into) || news
	}
	if news {
		n.rescan()
	}
	return nil, nil
}
