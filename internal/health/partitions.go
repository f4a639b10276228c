package health

import (
	"fmt"
	"slices"
)

// unplaced finds partitions that the winner has not given any replicas.
func unplaced(in *Input) (found []Finding) {
	var why groups
	for i := range in.Partitions {
		p := &in.Partitions[i]
		if len(p.Replicas) > 0 || in.View.IsBroken(p.TP()) {
			continue
		}
		a, foreign := in.View.Assignments[p.TP()]
		_, dead := in.View.Deleted[a.TopicID]
		need, ready := int(in.View.Topics[p.Topic].ReplicationFactor), in.ready()
		switch {
		case foreign && !dead:
			why.add(p, fmt.Sprintf("their assignment belongs to topic id %s, which was never deleted", a.TopicID),
				fmt.Sprintf("if that topic's data is not wanted: etcdctl del %sassignments/%s", in.Base, p.TP()))
		case need > ready:
			why.add(p, fmt.Sprintf("%d replicas need as many ready nodes, there are %d", need, ready),
				"start or add nodes, or undrain some (raftsman node list); or create the topic anew with fewer replicas")
		default:
			why.add(p, "the winner has not placed them yet",
				"wait a few seconds; if it stays, look for a winner: raftsman cluster status")
		}
	}
	for _, g := range why {
		found = append(found, Finding{
			Kind: "partitions-unplaced", Severity: Broken, Partitions: g.names(), Do: g.do,
			What: fmt.Sprintf("%s without replicas (%s): %s", g.count(), some(g.names()), g.cause),
		})
	}
	return found
}

// leaderless finds partitions that can't be written or read.
func leaderless(in *Input) (found []Finding) {
	var lost, headless groups
	for i := range in.Partitions {
		switch p := &in.Partitions[i]; {
		case len(p.Replicas) == 0:
		case p.minority:
			away := slices.Sorted(slices.Values(slices.Concat(p.Offline, p.Wiped)))
			cause, do := "too many replicas are on "+named(away), "start "+named(away)+" again, with what was on the disks"
			if len(p.Wiped) > 0 {
				cause += "; " + named(p.Wiped) + " came back with an empty data directory"
				do += "; put the old data directory of " + named(p.Wiped) + " back if there is one"
			}
			lost.add(p, cause, do+"; until then these can't be written; if the data is gone for good: raftsman partition recover", away...)
		case p.Leader < 0:
			headless.add(p, "", "", p.Replicas...)
		}
	}
	for _, g := range lost {
		found = append(found, Finding{
			Kind: "partitions-without-majority", Severity: Broken, Partitions: g.names(), Nodes: g.nodes,
			Since: in.since(g.nodes),
			What:  fmt.Sprintf("%s without a majority (%s): %s", g.count(), some(g.names()), g.cause),
			Do:    g.do,
		})
	}
	for _, g := range headless {
		found = append(found, Finding{
			Kind: "partitions-without-leader", Severity: Broken, Partitions: g.names(), Nodes: g.nodes,
			What: fmt.Sprintf("%s without a leader (%s), though a majority of the replicas on %s answers", g.count(), some(g.names()), named(g.nodes)),
			Do:   "wait a few seconds for an election; if it stays, look at the logs of these nodes",
		})
	}
	return found
}

// lagging finds replicas that are there and don't have everything.
func lagging(in *Input) (found []Finding) {
	var behind, moving groups
	for i := range in.Partitions {
		switch p := &in.Partitions[i]; {
		case p.Leader < 0 || p.minority:
		case p.Moving:
			moving.add(p, "", "")
		case len(p.Lagging) > 0:
			behind.add(p, "", "", p.Lagging...)
		}
	}
	for _, g := range behind {
		found = append(found, Finding{
			Kind: "partitions-under-replicated", Severity: Degraded, Partitions: g.names(), Nodes: g.nodes,
			What: fmt.Sprintf("%s under-replicated (%s): the replicas on %s are catching up", g.count(), some(g.names()), named(g.nodes)),
			Do: fmt.Sprintf("wait; raftsman partition list --node %d --problems shows how many are left; if that does not fall, look at that node's disk, network and log",
				g.nodes[0]),
		})
	}
	for _, g := range moving {
		found = append(found, Finding{
			Kind: "partitions-moving", Severity: Info, Partitions: g.names(),
			What: fmt.Sprintf("%s on the way to other replicas (%s)", g.count(), some(g.names())),
			Do:   "nothing; raftsman ops list shows what was asked for",
		})
	}
	return found
}

// wiped finds replicas whose node came back with an empty disk.
func wiped(in *Input) (found []Finding) {
	var gone groups
	for i := range in.Partitions {
		if p := &in.Partitions[i]; len(p.Wiped) > 0 && !p.minority {
			gone.add(p, "", "", p.Wiped...)
		}
	}
	for _, g := range gone {
		found = append(found, Finding{
			Kind: "replicas-wiped", Severity: Degraded, Partitions: g.names(), Nodes: g.nodes,
			What: fmt.Sprintf("%s lost a replica (%s): %s came back with an empty data directory", g.count(), some(g.names()), named(g.nodes)),
			Do:   "wait: the winner gives them new replicas there, which are filled from the leaders",
		})
	}
	return found
}
