package replication

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/raft"
)

// A group that has lost a majority of its replicas begins anew from one of them
// in two steps, with the replica closed, on the word of a human only:
//
//	Settle   makes all of the survivor's log, committed or not, its state, and
//	         takes a snapshot of that whose only member is the new replica id
//	Inherit  gives that snapshot to the new id, in a term above the former ones
//
// Between them the caller moves the state machine's files. Each step may be cut
// off anywhere and is repeated then. The former ids are never used again: what
// their other holders say, should they return, reaches nobody (docs/adr/0011).

var keyCurrentTerm = []byte("CurrentTerm") // as raft names it

// Settle applies all that a closed replica's log holds to sm and stores a
// snapshot of it under the replica, with into as the only member. sm must be new.
func (h *Host) Settle(replica, into uint64, sm StateMachine) error {
	fail := func(err error) error { return fmt.Errorf("settle replica %d: %w", replica, err) }
	if err := h.reserve(replica); err != nil {
		return fail(err)
	}
	defer h.remove(replica)
	st, err := h.openStore(replica)
	if err != nil {
		return fail(err)
	}
	snapshots := h.recordedSnapshots(replica, st, new(snapshotEnd), nil)
	conf := raft.DefaultConfig()
	conf.LocalID = serverID(into)
	conf.Logger = &raftLogger{log: h.logger("recovery", replica)}
	conf.NoLegacyTelemetry = true
	err = raft.RecoverCluster(conf, settling{sm}, st, st, snapshots, nil, alone(into))
	if err = errors.Join(err, st.Close()); err != nil {
		return fail(err)
	}
	return nil
}

// alone is the configuration with one voter.
func alone(replica uint64) raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: serverID(replica), Address: serverAddr(replica)}}}
}

// settling is the state machine as RecoverCluster wants it.
type settling struct{ StateMachine }

func (s settling) Apply(l *raft.Log) any { return s.ApplyBatch([]*raft.Log{l})[0] }

func (s settling) Snapshot() (raft.FSMSnapshot, error) {
	snap, err := s.StateMachine.Snapshot()
	if err != nil {
		return nil, err
	}
	return ownSnapshot{snap}, nil
}

// Inherit gives the snapshot that Settle has stored under replica to into,
// whose terms will be above term.
func (h *Host) Inherit(replica, into, term uint64) error {
	fail := func(err error) error { return fmt.Errorf("replica %d inherits from %d: %w", into, replica, err) }
	for _, id := range []uint64{replica, into} {
		if err := h.reserve(id); err != nil {
			return fail(err)
		}
		defer h.remove(id)
	}
	meta, manifest, err := h.settled(replica, into)
	if err != nil {
		return fail(err)
	}
	old, err := h.openStore(replica)
	if err != nil {
		return fail(err)
	}
	reached, err := getUint64(old, keyCurrentTerm)
	if err = errors.Join(err, old.Close()); err != nil {
		return fail(err)
	}
	st, err := h.openStore(into)
	if err != nil {
		return fail(err)
	}
	err = inherit(h.recordedSnapshots(into, st, new(snapshotEnd), nil), st, meta, manifest, max(term, reached))
	if err = errors.Join(err, st.Close()); err != nil {
		return fail(err)
	}
	return nil
}

// settled reads the snapshot of a replica and checks that it is meant for into.
func (h *Host) settled(replica, into uint64) (*raft.SnapshotMeta, []byte, error) {
	snapshots := h.manifests.Group(replica)
	list, err := snapshots.List()
	if err != nil {
		return nil, nil, err
	}
	if len(list) == 0 || !slices.Equal(list[0].Configuration.Servers, alone(into).Servers) {
		return nil, nil, errors.New("it was not settled for this")
	}
	meta, r, err := snapshots.Open(list[0].ID)
	if err != nil {
		return nil, nil, err
	}
	manifest, err := io.ReadAll(r)
	return meta, manifest, errors.Join(err, r.Close())
}

// inherit stores the snapshot, then the term, and last that the replica was
// bootstrapped: by that Inherited knows that all of it is there.
func inherit(snapshots *recordedSnapshots, st store, meta *raft.SnapshotMeta, manifest []byte, term uint64) error {
	sink, err := snapshots.Create(meta.Version, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, nil)
	if err != nil {
		return err
	}
	if s, ok := sink.(*recordedSink); ok {
		s.own = true // its files are in their place
	}
	if _, err := sink.Write(manifest); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return err
	}
	if err := st.SetUint64(keyCurrentTerm, term); err != nil {
		return err
	}
	return st.SetUint64(keyBootstrapped, 1)
}

// Inherited says whether a closed replica's Inherit was completed.
func (h *Host) Inherited(replica uint64) (bool, error) {
	if err := h.reserve(replica); err != nil {
		return false, err
	}
	defer h.remove(replica)
	st, err := h.openStore(replica)
	if err != nil {
		return false, err
	}
	done, err := getUint64(st, keyBootstrapped)
	return done == 1, errors.Join(err, st.Close())
}

// Holds says whether there is a snapshot of a closed replica. It is what Drop
// removes last.
func (h *Host) Holds(replica uint64) bool {
	list, err := h.manifests.Group(replica).List()
	return err == nil && len(list) > 0
}

// LogEnd is the term and index of the last entry of the log, committed or not.
func (g *Group) LogEnd() (term, index uint64) { return g.logEnd() }
