package health

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// now is the time in all scripts.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// world is a cluster that scripts change line by line.
type world struct {
	in     Input
	silent map[int32]time.Time
	none   map[string]bool    // partitions without a leader
	lag    map[string][]int32 // nodes not in sync
	met    []cluster.Node
}

func newWorld() *world {
	return &world{
		in: Input{
			Cluster: "default", Self: 1, Now: now, Base: "/raftsman/default/", Endpoints: []string{"http://e:2379"},
			RebuildDelay: 10 * time.Minute, Disk: Disk{Dir: "/data", Free: 10 << 30, MinFree: 512 << 20},
			Snapshot: Snapshot{View: &cluster.View{
				Source: cluster.SourceEtcd, Nodes: map[int32]cluster.Node{}, Topics: map[string]cluster.Topic{},
				Assignments: map[cluster.TopicPartition]cluster.Assignment{}, Status: map[int32]cluster.NodeStatus{},
				Ops: map[string]cluster.Op{}, Wishes: map[int32]cluster.NodeWish{}, Broken: map[string]string{},
			}},
		},
		silent: map[int32]time.Time{}, none: map[string]bool{}, lag: map[string][]int32{},
	}
}

func (w *world) away(node int32) *time.Time {
	if since, ok := w.silent[node]; ok {
		return &since
	}
	return nil
}

func (w *world) leader(topic, _ string, partition int32) Leader {
	tp := cluster.TopicPartition{Topic: topic, Partition: partition}
	l := Leader{Term: 2}
	for _, r := range w.in.View.Assignments[tp].Replicas {
		if w.away(r.Node) != nil || w.none[tp.String()] {
			continue
		}
		if l.Node == 0 {
			l.Node = r.Node
		}
		if !slices.Contains(w.lag[tp.String()], r.Node) {
			l.InSync = append(l.InSync, r.Node)
		}
	}
	return l
}

// do carries out one line and returns what it prints.
func (w *world) do(t *testing.T, line string) string {
	words := strings.Fields(line)
	opts := map[string]string{}
	var args []string
	for _, word := range words[1:] {
		if k, v, ok := strings.Cut(word, "="); ok {
			opts[k] = v
		} else {
			args = append(args, word)
		}
	}
	v := w.in.View
	switch words[0] {
	case "node":
		id := number(t, args[0])
		v.Nodes[id] = cluster.Node{Node: id, Incarnation: or(opts["inc"], "i"), State: or(opts["state"], cluster.StateReady), HTTP: fmt.Sprintf("n%d:8080", id), Peer: fmt.Sprintf("n%d:7070", id), Version: opts["version"]}
		if ms := opts["slow"]; ms != "" {
			n := v.Nodes[id]
			n.SlowDiskMS = int64(number(t, ms))
			v.Nodes[id] = n
		}
		delete(w.silent, id)
		w.met = append(w.met, v.Nodes[id])
		if v.Winner == nil {
			v.Winner = &cluster.Candidate{Node: id}
		}
	case "topic": // its replicas go round the nodes
		t2 := cluster.Topic{ID: "id-" + args[0], Partitions: number(t, opts["partitions"]), ReplicationFactor: int16(number(t, opts["rf"]))}
		v.Topics[args[0]] = t2
		ids := v.NodeIDList()
		for i := range t2.Partitions {
			a := cluster.Assignment{TopicID: t2.ID, Epoch: 1, Generation: 1, ModRevision: 5}
			for k := range int(t2.ReplicationFactor) {
				a.Replicas = append(a.Replicas, cluster.Replica{Node: ids[(int(i)+k)%len(ids)], ID: uint64(len(v.Assignments)*10 + k + 1), Incarnation: "i"})
			}
			if opts["placed"] != "no" {
				v.Assignments[cluster.TopicPartition{Topic: args[0], Partition: i}] = a
			}
		}
	case "silent", "away": // its pings stopped; its registration is gone too
		id := number(t, args[0])
		w.silent[id] = now.Add(-span(t, args[1]))
		if words[0] == "away" {
			delete(v.Nodes, id)
		}
	case "unregistered":
		delete(v.Nodes, number(t, args[0]))
	case "lag":
		w.lag[args[0]] = append(w.lag[args[0]], number(t, args[1]))
	case "moving":
		topic, i, _ := strings.Cut(args[0], "/")
		v.Status[1] = cluster.NodeStatus{Node: 1, Moving: map[string][]int32{topic: {number(t, i)}}}
	case "leaderless":
		w.none[args[0]] = true
	case "wish":
		v.Wishes[number(t, args[0])] = cluster.NodeWish{State: args[1]}
	case "forget": // a partition's replicas are elsewhere by now
		for tp, a := range v.Assignments {
			a.Replicas = slices.DeleteFunc(slices.Clone(a.Replicas), func(r cluster.Replica) bool { return r.Node == number(t, args[0]) })
			v.Assignments[tp] = a
		}
	case "etcd":
		since := now.Add(-span(t, args[0]))
		w.in.EtcdAway = &since
	case "source":
		v.Source = strings.TrimPrefix(args[0], "none")
	case "winner":
		v.Winner = nil
		if args[0] != "none" {
			v.Winner = &cluster.Candidate{Node: number(t, args[0])}
		}
	case "frozen":
		v.Frozen = strings.Join(args, " ")
		v.Halt = &cluster.Freeze{Reason: v.Frozen, By: "node 3", Since: now.Add(-time.Hour)}
	case "key":
		v.Broken[args[0]] = strings.Join(args[1:], " ")
	case "paused":
		v.Rebalance.Paused = true
	case "delay":
		w.in.RebuildDelay = span(t, args[0])
	case "disk":
		w.disk(t, args, opts)
	case "op":
		w.op(t, args, opts)
	case "health":
		return w.health()
	default:
		t.Fatalf("unknown line %q", line)
	}
	return ""
}

func (w *world) disk(t *testing.T, args []string, opts map[string]string) {
	d := &w.in.Disk
	d.Stuck, d.Full = slices.Contains(args, "stuck"), slices.Contains(args, "full")
	if opts["sync"] != "" {
		d.Slowest = span(t, opts["sync"])
	}
	if opts["free"] != "" {
		d.Free = int64(number(t, opts["free"])) << 20
	}
}

func (w *world) op(t *testing.T, args []string, opts map[string]string) {
	ago := func(key string) *time.Time {
		if opts[key] == "" {
			return nil
		}
		at := now.Add(-span(t, opts[key]))
		return &at
	}
	op := cluster.Op{
		Kind: cluster.OpKind(opts["kind"]), State: cluster.OpState(opts["state"]), Reason: strings.Join(args[1:], " "), Topic: opts["topic"],
		Created: ago("created"), Started: ago("started"), Finished: ago("finished"), CreateRevision: int64(len(w.in.View.Ops) + 1),
	}
	if opts["node"] != "" {
		op.Node = number(t, opts["node"])
	}
	if done, total, ok := strings.Cut(opts["progress"], "/"); ok {
		op.Progress = &cluster.Progress{Done: int(number(t, done)), Total: int(number(t, total)), EstimateSeconds: 150}
	}
	w.in.View.Ops[args[0]] = op
}

func (w *world) health() string {
	v := w.in.View
	w.in.Partitions = Partitions(v, w.leader, func(n int32) bool { return w.away(n) == nil })
	w.in.Nodes = Nodes(v, w.met, w.away, w.in.Partitions)
	r := Assess(w.in)
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d nodes answer, %d partitions of %d topics\n", r.State, r.Nodes, r.Partitions, r.Topics)
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %s: %s", f.Severity, f.Kind, f.What)
		if f.Since != nil {
			fmt.Fprintf(&b, " (for %s)", Span(now.Sub(*f.Since)))
		}
		fmt.Fprintf(&b, "\n\tdo: %s\n", f.Do)
		if len(f.Nodes)+len(f.Partitions)+len(f.Keys)+len(f.Ops) > 0 {
			fmt.Fprintf(&b, "\tof: %v\n", slices.Concat(texts(f.Nodes), f.Partitions, f.Keys, f.Ops))
		}
	}
	return b.String()
}

func texts(ns []int32) (out []string) {
	for _, n := range ns {
		out = append(out, fmt.Sprintf("node-%d", n))
	}
	return out
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func number(t *testing.T, s string) int32 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return int32(n)
}

func span(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
