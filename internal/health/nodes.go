package health

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// since is the earliest time at which one of the nodes went away, as far as known.
func (in *Input) since(nodes []int32) *time.Time {
	var first *time.Time
	for _, id := range nodes {
		if n := in.node(id); n != nil && n.AwaySince != nil && (first == nil || n.AwaySince.Before(*first)) {
			first = n.AwaySince
		}
	}
	return first
}

// nodesAway finds nodes that don't answer. One that was decommissioned and holds
// nothing any more may do that.
func nodesAway(in *Input) (found []Finding) {
	type away struct {
		do    string
		nodes []int32
		peers []string // of those that etcd has registered still
	}
	var all []*away
	for i := range in.Nodes {
		n := &in.Nodes[i]
		if n.Alive || n.Wish == cluster.WishDecommissioned && n.Replicas == 0 {
			continue
		}
		do, registered := rebuild(in, n), n.Registered && in.EtcdAway == nil
		k := slices.IndexFunc(all, func(a *away) bool { return a.do == do && (len(a.peers) > 0) == registered })
		if k < 0 {
			k, all = len(all), append(all, &away{do: do})
		}
		all[k].nodes = append(all[k].nodes, n.Node.Node)
		if registered {
			all[k].peers = append(all[k].peers, n.Peer)
		}
	}
	others := slices.ContainsFunc(in.Nodes, func(n Node) bool { return n.Alive && n.Node.Node != in.Self })
	for _, a := range all {
		f := Finding{Kind: "node-away", Severity: Degraded, Nodes: a.nodes, Since: in.since(a.nodes)}
		f.What = fmt.Sprintf("%s %s away", named(a.nodes), isAre(len(a.nodes)))
		short := in.without(a.nodes)
		if len(short.partitions) > 0 {
			f.Partitions = short.names()
			f.What += fmt.Sprintf(": %s with a replica less (%s)", short.count(), some(f.Partitions))
		}
		which := "NODE"
		if len(a.nodes) == 1 {
			which = fmt.Sprint(a.nodes[0])
		}
		f.Do = strings.ReplaceAll(a.do, "NODE", which)
		if len(a.peers) > 0 {
			f.Do = fmt.Sprintf("etcd has %s registered still: if running, look at the network to %s; if not, %s", named(a.nodes), some(a.peers), f.Do)
		}
		if !others {
			f.Do += fmt.Sprintf("; node %d reaches no other node at all: if they run, ask one of them", in.Self)
		}
		found = append(found, f)
	}
	return found
}

// mostAway says that more than half of the nodes that hold replicas are away: the
// winner takes that for a failure of etcd or the network, and rebuilds nothing.
func (in *Input) mostAway() bool {
	holders, away := 0, 0
	for _, n := range in.Nodes {
		if n.Replicas > 0 {
			holders++
			if !n.Alive {
				away++
			}
		}
	}
	return 2*away > holders
}

// without gathers the partitions with a replica on one of the nodes, which are
// away.
func (in *Input) without(nodes []int32) (g group) {
	for i := range in.Partitions {
		p := &in.Partitions[i]
		if slices.ContainsFunc(p.Offline, func(id int32) bool { return slices.Contains(nodes, id) }) {
			g.partitions = append(g.partitions, p)
		}
	}
	return g
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// rebuild says what to do about a node that is away, and what becomes of its
// replicas. NODE stands for its number, so that many nodes have the same text.
func rebuild(in *Input, n *Node) string {
	const start = "start it again; "
	widest := 0 // of the partitions that can be rebuilt at all
	for i := range in.Partitions {
		if p := &in.Partitions[i]; !p.minority && slices.Contains(p.Replicas, n.Node.Node) {
			widest = max(widest, len(p.Replicas))
		}
	}
	ready := in.ready()
	if n.Registered && in.View.Nodes[n.Node.Node].State == cluster.StateReady && n.Wish == "" {
		ready-- // its lease has not run out yet
	}
	switch {
	case widest == 0 && n.Replicas > 0:
		return start + "its replicas can't be rebuilt elsewhere: no partition of it has a majority left"
	case widest == 0:
		return start + "it holds no replicas, and is forgotten when its lease in etcd has run out"
	case widest > ready:
		return fmt.Sprintf(start+"its replicas can't be rebuilt elsewhere: that needs %d ready nodes, there are %d", widest, ready)
	case n.Wish == cluster.WishDecommissioned:
		return "its replicas are being rebuilt on other nodes: raftsman ops list"
	case in.mostAway():
		return start + "nothing is rebuilt while more than half of the nodes with replicas are away: look at etcd and the network"
	case in.EtcdAway != nil:
		return start + "its replicas are not rebuilt while etcd is away"
	case in.RebuildDelay < 0:
		return start + "its replicas are not rebuilt by themselves (--replica-rebuild-delay 0); if it does not come back: raftsman node decommission NODE"
	case n.AwaySince != nil && in.Now.Sub(*n.AwaySince) < in.RebuildDelay:
		return fmt.Sprintf(start+"its replicas are rebuilt on other nodes in about %s, or now with: raftsman node decommission NODE", Span(in.RebuildDelay-in.Now.Sub(*n.AwaySince)))
	}
	return start + "its replicas are being rebuilt on other nodes"
}

// nodesOdd finds nodes that answer, and can't do all that a node should.
func nodesOdd(in *Input) (found []Finding) {
	for i := range in.Nodes {
		n := &in.Nodes[i]
		if !n.Alive {
			continue
		}
		id := []int32{n.Node.Node}
		switch {
		case !n.Registered && in.EtcdAway == nil && in.View.Source == cluster.SourceEtcd:
			found = append(found, Finding{
				Kind: "node-unregistered", Severity: Degraded, Nodes: id,
				What: fmt.Sprintf("node %d runs and is not registered in etcd: it gets no new replicas, and can't be the winner", n.Node.Node),
				Do:   fmt.Sprintf("wait a few seconds; if it stays, look at its log and its connection to etcd: raftsman cluster health --http %s", n.HTTP),
			})
		case n.State == cluster.StateFull:
			found = append(found, Finding{
				Kind: "node-full", Severity: Degraded, Nodes: id,
				What: fmt.Sprintf("the disk of node %d is nearly full: it takes no more records and leads nothing that others can lead", n.Node.Node),
				Do:   "make room on its disk, shorten the topics' retention, or add a node",
			})
		case n.SlowDiskMS > 0:
			found = append(found, Finding{
				Kind: "node-slow-disk", Severity: Degraded, Nodes: id,
				What: fmt.Sprintf("the disk of node %d is much slower than those of the others (%d ms a write): it leads nothing that others can lead", n.Node.Node, n.SlowDiskMS),
				Do:   "look at its disk: raftsman_wal_commit_median_seconds on each node; it leads again by itself when the disk is well",
			})
		case n.State == cluster.StateDraining && n.Wish == "":
			found = append(found, Finding{
				Kind: "node-stopping", Severity: Degraded, Nodes: id,
				What: fmt.Sprintf("node %d is stopping and hands over what it leads", n.Node.Node), Do: "nothing",
			})
		}
	}
	return found
}

// wishes finds nodes that an operator took out of service.
func wishes(in *Input) (found []Finding) {
	for i := range in.Nodes {
		n := &in.Nodes[i]
		id := n.Node.Node
		f := Finding{Severity: Degraded, Nodes: []int32{id}}
		switch {
		case n.Wish == cluster.WishDrained:
			f.Kind = "node-drained"
			f.What = fmt.Sprintf("node %d is drained: it leads %s and gets no new replicas", id, plural(n.Leads, "partition"))
			f.Do = fmt.Sprintf("when its work is done: raftsman node undrain %d", id)
		case n.Wish == cluster.WishDecommissioned && n.Replicas > 0 && n.Alive:
			f.Kind = "node-decommissioning"
			f.What = fmt.Sprintf("node %d is being decommissioned: %s left on it", id, plural(n.Replicas, "replica"))
			f.Do = fmt.Sprintf("wait (raftsman ops list); to keep the node: raftsman node undrain %d", id)
		case n.Wish == cluster.WishDecommissioned && n.Alive:
			f.Kind, f.Severity = "node-decommissioned", Info
			f.What = fmt.Sprintf("node %d is decommissioned and holds nothing", id)
			f.Do = fmt.Sprintf("stop it; to keep it: raftsman node undrain %d", id)
		default:
			continue
		}
		found = append(found, f)
	}
	return found
}

// versions finds an upgrade that is not finished.
func versions(in *Input) []Finding {
	byVersion := make(map[string][]int32)
	for _, n := range in.Nodes {
		if n.Alive && n.Version != "" {
			byVersion[n.Version] = append(byVersion[n.Version], n.Node.Node)
		}
	}
	if len(byVersion) < 2 {
		return nil
	}
	return []Finding{{
		Kind: "versions-differ", Severity: Info, What: fmt.Sprintf("the nodes run %d versions", len(byVersion)),
		Do: "upgrade the others too: raftsman node list",
	}}
}
