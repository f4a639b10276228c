package node

import (
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

func TestWinnersSeen(t *testing.T) {
	var w winners
	at := time.Unix(1000, 0)
	see := func(source string, node int32, revision int64) {
		v := &cluster.View{Source: source}
		if node > 0 {
			v.Winner = &cluster.Candidate{Node: node, CreateRevision: revision}
		}
		at = at.Add(time.Second)
		w.note(v, at)
	}
	see(cluster.SourceDisk, 9, 5) // of the past: nobody knows whether it is the winner still
	see(cluster.SourceEtcd, 1, 10)
	see(cluster.SourceEtcd, 1, 10)
	see(cluster.SourceEtcd, 0, 0)
	see(cluster.SourceEtcd, 2, 20)
	see(cluster.SourceEtcd, 2, 30) // again, in another term
	got := w.seen()
	if len(got) != 3 || got[0].Node != 1 || !got[0].Before || got[1].Node != 2 || got[1].Before || got[2].Revision != 30 || got[2].Seen.Unix() != 1006 {
		t.Errorf("got %+v", got)
	}
	for i := range int64(100) {
		see(cluster.SourceEtcd, 3, 100+i)
	}
	if got := w.seen(); len(got) != winnersKept || got[winnersKept-1].Revision != 199 {
		t.Errorf("of many: %d, the last is %+v", len(got), got[len(got)-1])
	}

	// The first that a node sees in a cluster without one has begun just then.
	var fresh winners
	fresh.note(&cluster.View{Source: cluster.SourceEtcd}, at)
	fresh.note(&cluster.View{Source: cluster.SourceEtcd, Winner: &cluster.Candidate{Node: 1, CreateRevision: 1}}, at)
	if got := fresh.seen(); len(got) != 1 || got[0].Before {
		t.Errorf("got %+v", got)
	}
}
