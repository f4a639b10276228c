package controller

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// now is the time in all scripts.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// model stands for etcd: it applies what Plan decided.
type model struct {
	cluster.View
	facts Facts
}

func newModel() *model {
	return &model{facts: Facts{Now: now}, View: cluster.View{
		Source: cluster.SourceEtcd, Revision: 1,
		Meta:  &cluster.Meta{ClusterID: "c", Epoch: 1, Format: 1},
		Nodes: map[int32]cluster.Node{}, Topics: map[string]cluster.Topic{}, Broken: map[string]string{},
		Assignments: map[cluster.TopicPartition]cluster.Assignment{}, Deleted: map[string]cluster.Tombstone{},
	}}
}

// apply does what etcd would do, conditions included.
func (m *model) apply(changes []Change) error {
	counter := m.ReplicaIDs.ModRevision
	m.Revision++
	for _, c := range changes {
		switch c.Kind {
		case cluster.Place, cluster.Replace:
			if have := m.Assignments[c.TP].ModRevision; have != c.Revision {
				return fmt.Errorf("%s: based on revision %d, it is %d", c, c.Revision, have)
			}
			if c.Kind == cluster.Place && m.Topics[c.TP.Topic].CreateRevision != c.Topic.CreateRevision {
				return fmt.Errorf("%s: another topic", c)
			}
			if t := m.Topics[c.TP.Topic]; c.Kind == cluster.Place {
				t.Placed = max(t.Placed, c.TP.Partition+1)
				m.Topics[c.TP.Topic] = t
			}
			if c.CounterRevision != counter {
				return fmt.Errorf("%s: replica ids based on revision %d, they are at %d", c, c.CounterRevision, counter)
			}
			for _, r := range c.Assignment.Replicas {
				if m.ReplicaIDs.Next = max(m.ReplicaIDs.Next, int64(r.ID)+1); c.NewIDs > 0 {
					m.ReplicaIDs.ModRevision = m.Revision
				}
			}
			a := c.Assignment
			a.ModRevision = m.Revision
			m.Assignments[c.TP] = a
		case cluster.Enlarge:
			t := m.Topics[c.TP.Topic]
			if t.ModRevision != c.Topic.ModRevision || t.ReplicationFactor >= c.Topic.ReplicationFactor {
				return fmt.Errorf("%s: it has %d", c, t.ReplicationFactor)
			}
			t.ReplicationFactor, t.ModRevision = c.Topic.ReplicationFactor, m.Revision
			m.Topics[c.TP.Topic] = t
		case cluster.Remove:
			delete(m.Assignments, c.TP)
		case cluster.Forget:
			delete(m.Deleted, c.TopicID)
		default:
			if err := m.applyOp(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// applyOp is apply for operations and wishes.
func (m *model) applyOp(c Change) error {
	have := m.Ops[c.OpID].ModRevision
	if c.Kind == cluster.WriteWish || c.Kind == cluster.DropWish {
		have = m.Wishes[c.Node].ModRevision
	}
	if c.Kind != cluster.Blocked && have != c.Revision {
		return fmt.Errorf("%s: based on revision %d, it is %d", c, c.Revision, have)
	}
	switch c.Kind {
	case cluster.WriteOp:
		c.Op.CreateRevision, c.Op.ModRevision = m.Ops[c.OpID].CreateRevision, m.Revision
		m.Ops[c.OpID] = c.Op
	case cluster.ForgetOp:
		delete(m.Ops, c.OpID)
	case cluster.WriteWish:
		c.Wish.ModRevision = m.Revision
		m.Wishes[c.Node] = c.Wish
	case cluster.DropWish:
		delete(m.Wishes, c.Node)
	}
	return nil
}

// do runs one line of a script and returns what it prints.
func (m *model) do(t testing.TB, line string) string {
	t.Helper()
	words := strings.Fields(line)
	args, opts := []string{}, map[string]string{}
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			opts[k] = v
		} else {
			args = append(args, w)
		}
	}
	num := func(s string, def int64) int64 {
		if s == "" {
			return def
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return n
	}
	m.Revision++
	switch words[0] {
	case "epoch":
		meta := *m.Meta
		meta.Epoch = num(args[0], 0)
		m.Meta = &meta
	case "node": // node 1 [rack=a] [inc=x] [state=ready]
		id := int32(num(args[0], 0))
		n := cluster.Node{Node: id, Incarnation: opts["inc"], Rack: opts["rack"], State: opts["state"]}
		if n.Incarnation == "" {
			n.Incarnation = "i" + args[0]
		}
		if n.State == "" {
			n.State = cluster.StateReady
		}
		m.Nodes[id] = n
	case "lost": // lost 1: the node's registration is gone
		delete(m.Nodes, int32(num(args[0], 0)))
	case "topic": // topic name id=… partitions=… rf=… [on=1:2,2:3]: the nodes chosen for the last partitions
		create := m.Revision
		if old, ok := m.Topics[args[0]]; ok && old.ID == opts["id"] {
			create = old.CreateRevision
		}
		m.Topics[args[0]] = cluster.Topic{ID: opts["id"], Partitions: int32(num(opts["partitions"], 1)),
			ReplicationFactor: int16(num(opts["rf"], 1)), CreateRevision: create, Replicas: m.Topics[args[0]].Replicas}
		if on := strings.Split(opts["on"], ","); opts["on"] != "" {
			m.Topics[args[0]] = wanting(m.Topics[args[0]], on)
		}
	case "delete": // delete name [days=…]: with its tombstone
		m.Deleted[m.Topics[args[0]].ID] = cluster.Tombstone{Topic: args[0],
			Deleted: now.Add(-time.Duration(num(opts["days"], 0)) * 24 * time.Hour)}
		delete(m.Topics, args[0])
	case "vanish": // vanish name: the key alone, by hand
		delete(m.Topics, args[0])
	case "assign": // assign orders/0 id=… 1:7 2:8@oldincarnation
		topic, part, _ := strings.Cut(args[0], "/")
		a := cluster.Assignment{TopicID: opts["id"], Epoch: m.Meta.Epoch, Generation: num(opts["gen"], 1), ModRevision: m.Revision}
		for _, r := range args[1:] {
			r, inc, _ := strings.Cut(r, "@")
			node, id, _ := strings.Cut(r, ":")
			if inc == "" {
				inc = "i" + node
			}
			a.Replicas = append(a.Replicas, cluster.Replica{Node: int32(num(node, 0)), ID: uint64(num(id, 0)), Incarnation: inc})
		}
		m.Assignments[cluster.TopicPartition{Topic: topic, Partition: int32(num(part, 0))}] = a
	case "broken":
		m.Broken[args[0]] = "nonsense"
	case "replica-ids":
		m.ReplicaIDs = cluster.Counter{Next: num(args[0], 0), ModRevision: m.Revision}
	case "plan", "run": // run also applies it
		changes := append(Plan(&m.View, m.facts), Forget(&m.View, now)...)
		var out strings.Builder
		for _, c := range changes {
			fmt.Fprintln(&out, c)
		}
		if len(changes) == 0 {
			out.WriteString("nothing\n")
		}
		if words[0] == "run" {
			if err := m.apply(changes); err != nil {
				t.Fatal(err)
			}
		}
		return out.String()
	case "load": // what each node holds
		var out strings.Builder
		replicas, leads := m.counts()
		for _, id := range slices.Sorted(maps.Keys(m.Nodes)) {
			fmt.Fprintf(&out, "%d: %d replicas, prefers %d\n", id, replicas[id], leads[id])
		}
		return out.String()
	default:
		if !m.operate(words[0], args, opts, num) {
			t.Fatalf("unknown command %q", line)
		}
	}
	return ""
}

// wanting chooses nodes for a topic's last partitions.
func wanting(t cluster.Topic, on []string) cluster.Topic {
	t.Replicas = maps.Clone(t.Replicas)
	if t.Replicas == nil {
		t.Replicas = map[int32][]int32{}
	}
	for i, nodes := range on {
		p := t.Partitions - int32(len(on)) + int32(i)
		for n := range strings.SplitSeq(nodes, ":") {
			id, _ := strconv.ParseInt(n, 10, 32)
			t.Replicas[p] = append(t.Replicas[p], int32(id))
		}
	}
	return t
}

func (m *model) counts() (replicas, leads map[int32]int) {
	replicas, leads = map[int32]int{}, map[int32]int{}
	for _, a := range m.Assignments {
		leads[a.Replicas[0].Node]++
		for _, r := range a.Replicas {
			replicas[r.Node]++
		}
	}
	return replicas, leads
}
