package dashboard

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/health"
)

const (
	// maxRows bounds the partitions of a state. Beyond it those come first that
	// lack something; topics count all of theirs.
	maxRows = 20_000
	maxWins = 20
)

// Look is the cluster as a node sees it at one time.
type Look struct {
	Name, ID  string
	Etcd      []string
	EtcdThere bool  // etcd answers this node
	Winner    int32 // 0: none that answers
	Health    health.Report
	health.Snapshot
}

// Overview is the cluster in numbers: those of raftsman cluster status.
type Overview struct {
	Node            int32      `json:"node"` // the one that says so
	Version         string     `json:"version"`
	Cluster         string     `json:"cluster"`
	ClusterID       string     `json:"cluster_id"`
	Etcd            []string   `json:"etcd"`
	EtcdThere       bool       `json:"etcd_there"`
	Source          string     `json:"source"`
	Frozen          string     `json:"frozen,omitempty"`
	Epoch           int64      `json:"epoch"`
	Winner          int32      `json:"winner"`
	Topics          int        `json:"topics"`
	Partitions      int        `json:"partitions"`
	Leaderless      int        `json:"leaderless"`
	UnderReplicated int        `json:"under_replicated"`
	Moving          int        `json:"moving"`
	Nodes           int        `json:"nodes"`
	NodesUp         int        `json:"nodes_up"`
	Operations      int        `json:"operations"` // that have not ended
	Paused          bool       `json:"rebalance_paused"`
	Shown           int        `json:"partitions_shown"`
	Health          healthText `json:"health"`
}

// healthText is a health.Report without what changes each second.
type healthText struct {
	State    health.Severity  `json:"state"`
	Findings []health.Finding `json:"findings"`
}

// TopicRow is a topic in a list.
type TopicRow struct {
	Name            string            `json:"name"`
	ID              string            `json:"id"`
	Partitions      int32             `json:"partitions"`
	Replication     int16             `json:"replication_factor"`
	Config          map[string]string `json:"config,omitempty"`
	Leaderless      int               `json:"leaderless"`
	UnderReplicated int               `json:"under_replicated"`
	Moving          int               `json:"moving"`
	Bytes           int64             `json:"bytes"` // of one replica of each partition, about
}

// OpRow is an operation with what people want to know of it.
type OpRow struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	Percent int    `json:"percent"`
	Order   int    `json:"order"`
	cluster.Op
}

// items are the parts of a state, by their keys, as JSON.
type items map[string][]byte

func (s items) put(key string, value any) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	if err := enc.Encode(value); err != nil { // plain structs: can't be
		panic("BUG: dashboard: encode " + key + ": " + err.Error())
	}
	s[key] = bytes.TrimSpace(buf.Bytes())
}

// build turns what is known into items.
func build(l Look, version string, loads map[int32]Load, wins []Win) items {
	s := make(items, len(l.Partitions)+len(l.Nodes)+64)
	o := Overview{
		Node: l.Health.Node, Version: version, Cluster: l.Name, ClusterID: l.ID, Etcd: l.Etcd, EtcdThere: l.EtcdThere, Source: l.View.Source, Frozen: l.View.Frozen,
		Winner: l.Winner, Topics: len(l.View.Topics), Partitions: len(l.Partitions), Nodes: len(l.Nodes), NodesUp: l.Health.Nodes,
		Paused: l.View.Rebalance.Paused, Health: healthText{l.Health.State, l.Health.Findings},
	}
	if l.View.Meta != nil {
		o.Epoch = l.View.Meta.Epoch
	}
	topics := make(map[string]*TopicRow, len(l.View.Topics))
	for name, t := range l.View.Topics {
		topics[name] = &TopicRow{Name: name, ID: t.ID, Partitions: t.Partitions, Replication: t.ReplicationFactor, Config: t.Config}
	}
	for i := range l.Partitions {
		p := &l.Partitions[i]
		t := topics[p.Topic]
		t.Bytes += p.Bytes
		if p.Leader < 0 {
			o.Leaderless++
			t.Leaderless++
		}
		if len(p.InSync) < len(p.Replicas) {
			o.UnderReplicated++
			t.UnderReplicated++
		}
		if p.Moving {
			o.Moving++
			t.Moving++
		}
	}
	rows := shown(l.Partitions)
	o.Shown = len(rows)
	for _, p := range rows {
		s.put("p/"+p.Topic+"/"+strconv.Itoa(int(p.Partition)), p)
	}
	for name, t := range topics {
		s.put("topic/"+name, t)
	}
	for _, n := range l.Nodes {
		s.put("node/"+strconv.Itoa(int(n.Node.Node)), n)
	}
	for id, load := range loads {
		s.put("load/"+strconv.Itoa(int(id)), load)
	}
	for i, id := range health.OpIDs(l.View.Ops) {
		op := l.View.Ops[id]
		if !op.State.Final() {
			o.Operations++
		}
		s.put("op/"+id, OpRow{id, health.Title(op), health.Percent(op), i, op})
	}
	s.put("cluster", o)
	s.put("winners", wins)
	return s
}

// shown are the partitions that a state holds: all, or those with a problem and as
// many others as there is room for.
func shown(all []health.Partition) []health.Partition {
	if len(all) <= maxRows {
		return all
	}
	odd := func(p *health.Partition) bool { return p.Leader < 0 || p.Moving || len(p.InSync) < len(p.Replicas) }
	rows := make([]health.Partition, 0, maxRows)
	for _, wanted := range []bool{true, false} {
		for i := range all {
			if len(rows) < maxRows && odd(&all[i]) == wanted {
				rows = append(rows, all[i])
			}
		}
	}
	return rows
}

// mergeWins puts together what the nodes have seen of the winners' terms, the
// newest first. The node that saw one first knows best since when.
func mergeWins(lists ...[]Win) []Win {
	byTerm := make(map[int64]Win)
	for _, w := range slices.Concat(lists...) {
		known, ok := byTerm[w.Revision]
		if !ok || known.Before && !w.Before || known.Before == w.Before && w.Seen.Before(known.Seen) {
			byTerm[w.Revision] = w
		}
	}
	all := slices.SortedFunc(maps.Values(byTerm), func(a, b Win) int { return cmp.Compare(b.Revision, a.Revision) })
	return all[:min(len(all), maxWins)]
}

// message is what watchers get: all items, or those that changed.
type message struct {
	Seq    uint64                     `json:"seq"`
	Reset  bool                       `json:"reset,omitempty"` // forget all that came before
	Now    int64                      `json:"now"`             // milliseconds since 1970, by this node's clock
	Within int64                      `json:"within"`          // milliseconds in which the next message comes
	Age    int64                      `json:"age,omitempty"`   // milliseconds since it was made, when it was sent later
	Page   string                     `json:"page,omitempty"`  // which page this node serves
	Set    map[string]json.RawMessage `json:"set,omitempty"`
	Del    []string                   `json:"del,omitempty"`
	Points []Point                    `json:"points,omitempty"` // new ones; with Reset: all
}

// diff are the changes from one state to the next.
func diff(old, now items) (set map[string]json.RawMessage, del []string) {
	set = make(map[string]json.RawMessage)
	for key, value := range now {
		if !bytes.Equal(old[key], value) {
			set[key] = value
		}
	}
	for key := range old {
		if _, ok := now[key]; !ok {
			del = append(del, key)
		}
	}
	slices.Sort(del)
	return set, del
}

func whole(now items) map[string]json.RawMessage {
	set := make(map[string]json.RawMessage, len(now))
	for key, value := range now {
		set[key] = value
	}
	return set
}

// within is when the next message comes at the latest, after one that took took.
func within(took time.Duration) time.Duration { return max(tickEvery, pause(took)) }
