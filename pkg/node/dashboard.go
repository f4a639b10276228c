package node

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
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
		Known: n.calledBy, Gatherer: gatherer(n.cfg.Registerer), Now: n.now, Logger: n.log,
	})
	return err
}

// calledBy says whether clients of HTTP may call this node by a name: that of the
// host, the one that others are told, or one that is allowed.
func (n *Node) calledBy(name string) bool {
	allowed := func(one string) bool { return one == "*" || strings.EqualFold(one, name) }
	if slices.ContainsFunc(n.cfg.HTTPAllowedHosts, allowed) {
		return true
	}
	if host, err := os.Hostname(); err == nil && strings.EqualFold(name, host) {
		return true
	}
	told, err := n.HTTPAdvertised()
	if err != nil {
		return false
	}
	host, _, err := net.SplitHostPort(told)
	return err == nil && strings.EqualFold(name, host)
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
