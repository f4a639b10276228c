package health

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// frozen finds that nothing of the cluster may be changed.
func frozen(in *Input) []Finding {
	if in.View.Frozen == "" {
		return nil
	}
	f := Finding{
		Kind: "metadata-frozen", Severity: Broken,
		What: "changes are refused, data is served on: " + in.View.Frozen,
		Do:   "bring the right etcd back; if what it held is lost: raftsman cluster restore-metadata (docs/operations/etcd-loss.md)",
	}
	if h := in.View.Halt; h != nil {
		f.Since, f.Keys = &h.Since, []string{in.Base + "frozen"}
	}
	return []Finding{f}
}

// unknown finds a node that has never seen its cluster.
func unknown(in *Input) []Finding {
	if in.View.Source != cluster.SourceNone {
		return nil
	}
	return []Finding{{
		Kind: "metadata-unknown", Severity: Broken, Nodes: []int32{in.Self},
		What: fmt.Sprintf("node %d knows nothing of the cluster: it has not reached etcd yet", in.Self),
		Do:   "mend etcd at " + strings.Join(in.Endpoints, ",") + ", or this node's --etcd-endpoints; ask another node meanwhile",
	}}
}

func etcdAway(in *Input) []Finding {
	if in.EtcdAway == nil || in.View.Source == cluster.SourceNone {
		return nil
	}
	return []Finding{{
		Kind: "etcd-away", Severity: Degraded, Since: in.EtcdAway, Nodes: []int32{in.Self},
		What: fmt.Sprintf("node %d does not reach etcd at %s: data is served on, topics, nodes and operations can't be changed", in.Self, strings.Join(in.Endpoints, ",")),
		Do:   "mend etcd: etcdctl --endpoints " + strings.Join(in.Endpoints, ",") + " endpoint status",
	}}
}

func noWinner(in *Input) []Finding {
	if in.EtcdAway != nil || in.View.Source != cluster.SourceEtcd {
		return nil
	}
	w := in.View.Winner
	if w != nil {
		if n := in.node(w.Node); n != nil && n.Alive {
			return nil
		}
	}
	f := Finding{
		Kind: "no-winner", Severity: Degraded, Keys: []string{in.Base + "leader/"},
		What: "no node is the winner: nothing is placed, moved or rebuilt",
		Do:   "wait for an election (up to --session-ttl); if it stays, look at the nodes' logs and at: etcdctl get --prefix " + in.Base + "leader",
	}
	if w != nil {
		f.What = fmt.Sprintf("the winner, node %d, does not answer: nothing is placed, moved or rebuilt", w.Node)
		f.Nodes = []int32{w.Node}
	}
	return []Finding{f}
}

func brokenKeys(in *Input) []Finding {
	if len(in.View.Broken) == 0 {
		return nil
	}
	var keys, why []string
	for _, rel := range slices.Sorted(maps.Keys(in.View.Broken)) {
		keys = append(keys, in.Base+rel)
		why = append(why, rel+": "+in.View.Broken[rel])
	}
	return []Finding{{
		Kind: "keys-broken", Severity: Degraded, Keys: keys,
		What: fmt.Sprintf("%s in etcd with a value that makes no sense, the last good one stays in use: %s", plural(len(keys), "key"), some(why)),
		Do:   "see and mend the value: etcdctl get " + keys[0],
	}}
}

func paused(in *Input) []Finding {
	if !in.View.Rebalance.Paused {
		return nil
	}
	return []Finding{{
		Kind: "rebalance-paused", Severity: Degraded, Keys: []string{in.Base + "config/rebalance"},
		What: "rebalancing is paused: replicas and leaders are not spread anew",
		Do:   "when it may go on: raftsman cluster rebalance resume",
	}}
}

// slowSync is how long a sync may take without a finding.
const slowSync = 400 * time.Millisecond

// disk is about the asked node's own disk; a full one is in its registration.
func disk(in *Input) (found []Finding) {
	d, self := in.Disk, []int32{in.Self}
	switch {
	case d.Stuck:
		found = append(found, Finding{
			Kind: "disk-stuck", Severity: Degraded, Nodes: self,
			What: fmt.Sprintf("the disk of node %d (%s) hangs: others lead", in.Self, d.Dir),
			Do:   "look at the disk and the kernel's log (dmesg); the node goes on when the disk does",
		})
	case d.Slowest > slowSync:
		found = append(found, Finding{
			Kind: "disk-slow", Severity: Degraded, Nodes: self,
			What: fmt.Sprintf("the disk of node %d (%s) is slow: one sync in a hundred takes %s or more", in.Self, d.Dir, d.Slowest.Round(time.Millisecond)),
			Do:   "look at what else writes to it (iostat -x 1), and at raftsman_wal_fsync_seconds",
		})
	}
	if !d.Full && d.MinFree > 0 && d.Free > 0 && d.Free < 2*d.MinFree {
		found = append(found, Finding{
			Kind: "disk-low", Severity: Degraded, Nodes: self,
			What: fmt.Sprintf("the disk of node %d (%s) is nearly full: %s are free, below %s it takes no more records", in.Self, d.Dir, Size(d.Free), Size(d.MinFree)),
			Do:   "make room, or shorten the topics' retention",
		})
	}
	return found
}
