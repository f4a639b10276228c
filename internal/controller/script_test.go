package controller

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// operate runs the lines of a script that are about operations and time.
func (m *model) operate(command string, args []string, opts map[string]string, num func(string, int64) int64) bool {
	switch command {
	case "options": // options moves=8 delay=60 rate=50000000
		m.facts.Moves, m.facts.Rate = int(num(opts["moves"], 8)), num(opts["rate"], 50<<20)
		m.facts.RebuildDelay = time.Duration(num(opts["delay"], 600)) * time.Second
	case "wait": // wait 60: so many seconds pass
		m.facts.Now = m.facts.Now.Add(time.Duration(num(args[0], 0)) * time.Second)
	case "away": // away 3: the winner sees now that the node's registration is gone
		if m.facts.Away == nil {
			m.facts.Away = map[int32]time.Time{}
		}
		delete(m.Nodes, int32(num(args[0], 0)))
		m.facts.Away[int32(num(args[0], 0))] = m.facts.Now
	case "back": // back 3
		delete(m.facts.Away, int32(num(args[0], 0)))
	case "least": // least t=3: a topic of the system that shall have so many replicas
		m.facts.Replicas = map[string]int{}
		for topic, n := range opts {
			m.facts.Replicas[topic] = int(num(n, 0))
		}
	case "paused":
		m.Rebalance.Paused = true
	case "ask": // ask id {"kind":…}: as an operator writes it
		var op cluster.Op
		if err := json.Unmarshal([]byte(args[1]), &op); err != nil {
			panic(err)
		}
		op.CreateRevision, op.ModRevision = m.Revision, m.Revision
		if was, ok := m.Ops[args[0]]; ok {
			op.CreateRevision = was.CreateRevision
		}
		if m.Ops == nil {
			m.Ops, m.Wishes = map[string]cluster.Op{}, map[int32]cluster.NodeWish{}
		}
		m.Ops[args[0]] = op
	case "cancel": // cancel id
		op := m.Ops[args[0]]
		op.Cancel, op.ModRevision = true, m.Revision
		m.Ops[args[0]] = op
	case "unwish": // unwish 3: somebody deletes the key
		delete(m.Wishes, int32(num(args[0], 0)))
	case "report":
		m.report(opts, num)
	default:
		return false
	}
	return true
}

// report has the nodes say what they lead: each partition's first replica on a
// live node without a wish, else on a live node. Options: moving=t/0,t/1
// lagging=t/0:3,t/0:4 leader=t/0:2 none=t/0 bytes=1000000 size=t/0:5000000
// freed=3:8 (node 3 has freed replica 8).
func (m *model) report(opts map[string]string, num func(string, int64) int64) {
	listed := func(option, tp string, then func(int32)) {
		for _, item := range strings.Split(opts[option], ",") {
			if name, node, _ := strings.Cut(item, ":"); name == tp {
				then(int32(num(node, 0)))
			}
		}
	}
	m.Status = map[int32]cluster.NodeStatus{}
	for id := range m.Nodes {
		m.Status[id] = cluster.NodeStatus{Node: id, Assignments: m.Revision, Leads: map[string]map[int32]uint64{},
			Lagging: map[string]map[int32][]int32{}, Moving: map[string][]int32{}, Bytes: map[string]map[int32]int64{}}
		listed("freed", fmt.Sprint(id), func(replica int32) {
			s := m.Status[id]
			s.Freed = append(s.Freed, uint64(replica))
			m.Status[id] = s
		})
	}
	for tp, a := range m.Assignments {
		leader := int32(0)
		for _, shed := range []bool{false, true} {
			for _, r := range slices.Concat(a.Replicas, a.Former) {
				n, up := m.Nodes[r.Node]
				if leader == 0 && up && n.Incarnation == r.Incarnation && (shed || m.Wishes[r.Node].State == "") {
					leader = r.Node
				}
			}
		}
		listed("leader", tp.String(), func(n int32) { leader = n })
		listed("none", tp.String(), func(int32) { leader = 0 })
		if leader == 0 {
			continue
		}
		s := m.Status[leader]
		if s.Leads[tp.Topic] == nil {
			s.Leads[tp.Topic], s.Lagging[tp.Topic], s.Bytes[tp.Topic] = map[int32]uint64{}, map[int32][]int32{}, map[int32]int64{}
		}
		s.Leads[tp.Topic][tp.Partition] = 1
		s.Bytes[tp.Topic][tp.Partition] = num(opts["bytes"], 0)
		listed("size", tp.String(), func(n int32) { s.Bytes[tp.Topic][tp.Partition] = int64(n) })
		listed("moving", tp.String(), func(int32) { s.Moving[tp.Topic] = append(s.Moving[tp.Topic], tp.Partition) })
		listed("lagging", tp.String(), func(n int32) {
			s.Lagging[tp.Topic][tp.Partition] = append(s.Lagging[tp.Topic][tp.Partition], n)
		})
	}
}
