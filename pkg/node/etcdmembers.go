package node

import (
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
)

// EtcdMembers says what decommissions mean for an etcd that the nodes run themselves:
// whether this node is to have no member of it, and the names of the members of
// decommissioned nodes that hold nothing any more, its own perhaps. It is called once
// the node is ready.
func (n *Node) EtcdMembers() (leave bool, retired []string) {
	v := n.store.View()
	if v.Source != cluster.SourceEtcd || v.Frozen != "" {
		return false, nil
	}
	return retiredMembers(v, n.peers.all(), n.self())
}

// retiredMembers is EtcdMembers of a view. met are the last known registrations.
func retiredMembers(v *cluster.View, met []cluster.Node, self cluster.Node) (leave bool, retired []string) {
	emptied := emptiedNodes(v)
	kept := make(map[string]bool) // by nodes that serve on, whatever they were called before
	for _, n := range append(slices.Clip(met), self) {
		switch {
		case n.Node == self.Node && n.EtcdMember != self.EtcdMember:
			continue // what it was before
		case v.Wishes[n.Node].State != cluster.WishDecommissioned:
			kept[n.EtcdMember] = true
		case emptied[n.Node] && n.EtcdMember != "" && !slices.Contains(retired, n.EtcdMember):
			retired = append(retired, n.EtcdMember)
		}
	}
	retired = slices.DeleteFunc(retired, func(name string) bool { return kept[name] })
	return v.Wishes[self.Node].State == cluster.WishDecommissioned, retired
}

// emptiedNodes are the decommissioned ones that no assignment names any more.
func emptiedNodes(v *cluster.View) map[int32]bool {
	emptied := make(map[int32]bool)
	for node, w := range v.Wishes {
		if w.State == cluster.WishDecommissioned {
			emptied[node] = true
		}
	}
	for _, a := range v.Assignments {
		for _, r := range a.Replicas {
			delete(emptied, r.Node)
		}
	}
	return emptied
}

// retiredNodes are those of them that are not registered: nothing is expected of
// them.
func retiredNodes(v *cluster.View) map[int32]bool {
	retired := emptiedNodes(v)
	for node := range v.Nodes {
		delete(retired, node)
	}
	return retired
}
