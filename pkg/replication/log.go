package replication

import (
	"errors"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// groupLog is the log that raft sees: the store's, and the end of the newest
// snapshot.
//
// It says that it is not monotonic. Raft removes all of a monotonic store's
// entries when it installs a snapshot, those behind the snapshot too, and goes on
// to believe that they are there: it rejects every append that follows the
// snapshot, and when it stands for election it claims entries that it has not.
// Otherwise raft leaves entries behind the snapshot alone, and those before it for
// later. Those that are not of the snapshot's history are removed when it becomes
// durable (recordedSink), so that there is never a gap.
type groupLog struct {
	raft.LogStore
	end *snapshotEnd
}

// snapshotEnd is the last entry that the newest durable snapshot covers.
type snapshotEnd struct{ at atomic.Pointer[position] }

// position is an entry's.
type position struct{ index, term uint64 }

func (e *snapshotEnd) set(index, term uint64) { e.at.Store(&position{index, term}) }

// get returns zeros when there is no snapshot.
func (e *snapshotEnd) get() position {
	if at := e.at.Load(); at != nil {
		return *at
	}
	return position{}
}

// IsMonotonic implements raft.MonotonicLogStore.
func (groupLog) IsMonotonic() bool { return false }

// GetLog also knows the term of the entry before the first one, if that is where
// the snapshot ends: a leader's append may follow it. Nobody reads that entry for
// what it holds, since raft sends an entry only if it has the one before.
func (l groupLog) GetLog(index uint64, out *raft.Log) error {
	err := l.LogStore.GetLog(index, out)
	if !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	end := l.end.get()
	if index == 0 || index != end.index {
		return err
	}
	first, ferr := l.FirstIndex()
	if ferr != nil {
		return ferr
	}
	if first != 0 && first != index+1 {
		return err
	}
	*out = raft.Log{Index: index, Term: end.term, Type: raft.LogNoop}
	return nil
}

// DeleteRange implements raft.LogStore. Raft compacts by the indexes that it
// remembers, of entries that may be gone.
func (l groupLog) DeleteRange(low, high uint64) error {
	first, err := l.FirstIndex()
	if err != nil || first == 0 || high < first {
		return err
	}
	return l.LogStore.DeleteRange(max(low, first), high)
}

// screen looks at what a leader sends before raft does. It answers a snapshot
// that brings nothing new, and cuts from an append what the newest snapshot of
// this replica covers: raft would reject it, since it looks for the entry before
// in the log alone, and the leader would go back to a snapshot for ever.
func (g *Group) screen(cmd any) (answer any) {
	switch r := cmd.(type) {
	case *raft.AppendEntriesRequest:
		g.skipCovered(r)
	case *raft.InstallSnapshotRequest:
		if r.Term >= g.raft.CurrentTerm() && g.holds(r.LastLogIndex, r.LastLogTerm) {
			return &raft.InstallSnapshotResponse{RPCHeader: g.header(), Term: r.Term, Success: true}
		}
	}
	return nil
}

// holds says whether the log up to a committed entry is here.
func (g *Group) holds(index, term uint64) bool {
	if index <= g.end.get().index {
		return true
	}
	var l raft.Log
	return g.store.GetLog(index, &l) == nil && l.Term == term
}

// skipCovered lets an append begin where the snapshot ends, if it begins before
// that. What it skips is committed, and thus the same in the log of any leader
// whose term raft accepts.
func (g *Group) skipCovered(r *raft.AppendEntriesRequest) {
	end := g.end.get()
	if r.PrevLogEntry >= end.index || r.PrevLogEntry == 0 && len(r.Entries) == 0 {
		return
	}
	skip := 0
	for skip < len(r.Entries) && r.Entries[skip].Index <= end.index {
		skip++
	}
	r.Entries = r.Entries[skip:]
	r.PrevLogEntry, r.PrevLogTerm = end.index, end.term
}

// dropForeign removes the entries up to the end of a snapshot unless they are of
// its history.
func dropForeign(log raft.LogStore, end position) error {
	first, err := log.FirstIndex()
	if err != nil || first == 0 || first > end.index {
		return err
	}
	last, err := log.LastIndex()
	if err != nil {
		return err
	}
	if last >= end.index {
		var l raft.Log
		if err := log.GetLog(end.index, &l); err != nil || l.Term == end.term {
			return err
		}
	}
	return log.DeleteRange(first, min(last, end.index))
}
