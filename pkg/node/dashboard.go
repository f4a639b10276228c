package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/dashboard"
)

// openDashboard makes the page on the HTTP port.
func (n *Node) openDashboard() (err error) {
	n.dashboard, err = dashboard.New(dashboard.Options{
		Node: n.ID, Version: n.cfg.Version, Look: n.lookAround, Changed: n.changes.wait, Winners: n.winners.seen,
		Brokers: func() []string {
			addrs, _ := n.kafkaAddresses(context.Background())
			return addrs
		},
		Gatherer: gatherer(n.cfg.Registerer), Now: n.now, Logger: n.log,
	})
	return err
}

// lookAround is the cluster as this node sees it.
func (n *Node) lookAround() dashboard.Look {
	o := operator{n}
	s := o.Snapshot()
	return dashboard.Look{
		Name: n.cfg.Cluster, ID: n.ClusterID(), Etcd: n.etcd.Endpoints(), EtcdThere: n.store.Connected(), Winner: backend{n}.ControllerID(),
		Health: o.assess(s), Snapshot: s,
	}
}

// winners are the latest terms of winners that the node has seen. The zero value
// is ready.
type winners struct {
	mu     sync.Mutex
	looked bool // a view that etcd has given was there already
	terms  []dashboard.Win
}

const winnersKept = 20

// note looks at a view.
func (w *winners) note(v *cluster.View, now time.Time) {
	if v.Source != cluster.SourceEtcd {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	first := !w.looked
	w.looked = true
	if v.Winner == nil || len(w.terms) > 0 && w.terms[len(w.terms)-1].Revision == v.Winner.CreateRevision {
		return
	}
	w.terms = append(w.terms, dashboard.Win{
		Node: v.Winner.Node, Revision: v.Winner.CreateRevision, Seen: now.UTC().Truncate(time.Millisecond), Before: first,
	})
	w.terms = w.terms[max(0, len(w.terms)-winnersKept):]
}

func (w *winners) seen() []dashboard.Win {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.terms)
}
