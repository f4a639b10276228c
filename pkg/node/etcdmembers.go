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
	holds := make(map[int32]bool)
	for _, a := range v.Assignments {
		for _, r := range a.Replicas {
			holds[r.Node] = true
		}
	}
	kept := make(map[string]bool) // by nodes that serve on, whatever they were called before
	for _, n := range append(slices.Clip(met), self) {
		decommissioned := v.Wishes[n.Node].State == cluster.WishDecommissioned
		switch {
		case n.Node == self.Node && n.EtcdMember != self.EtcdMember:
			continue // what it was before
		case !decommissioned:
			kept[n.EtcdMember] = true
		case !holds[n.Node] && n.EtcdMember != "" && !slices.Contains(retired, n.EtcdMember):
			retired = append(retired, n.EtcdMember)
		}
	}
	retired = slices.DeleteFunc(retired, func(name string) bool { return kept[name] })
	return v.Wishes[self.Node].State == cluster.WishDecommissioned, retired
}
