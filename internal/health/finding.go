package health

import (
	"cmp"
	"slices"
	"time"
)

// Severity of a finding.
type Severity string

// Severities, and states of a whole cluster.
const (
	Info     Severity = "info"     // all is well, and something goes on
	Degraded Severity = "degraded" // everything is served; something needs an eye
	Broken   Severity = "broken"   // something is not served, or can't be changed
	Healthy  Severity = "healthy"  // of a Report alone: no finding above Info
)

// rank orders severities, the worst first.
func (s Severity) rank() int { return slices.Index([]Severity{Broken, Degraded, Info, Healthy}, s) }

// Finding is one thing to know, or many of one kind and cause.
type Finding struct {
	Kind     string     `json:"kind"` // for programs
	Severity Severity   `json:"severity"`
	What     string     `json:"what"` // a sentence; long lists are cut short
	Since    *time.Time `json:"since,omitempty"`
	Do       string     `json:"do,omitempty"`

	// What it is about, complete.
	Nodes      []int32  `json:"nodes,omitempty"`
	Partitions []string `json:"partitions,omitempty"` // topic/partition
	Keys       []string `json:"keys,omitempty"`       // in etcd
	Ops        []string `json:"ops,omitempty"`        // ids of operations
}

// Report is a cluster's health as one node sees it.
type Report struct {
	Cluster    string    `json:"cluster"`
	Node       int32     `json:"node"` // the one that says so
	Time       time.Time `json:"time"`
	State      Severity  `json:"state"`
	Nodes      int       `json:"nodes"` // that answer
	Topics     int       `json:"topics"`
	Partitions int       `json:"partitions"`
	Findings   []Finding `json:"findings"` // the worst first, never null
}

// Disk is the state of the asked node's own disk.
type Disk struct {
	Dir     string
	Stuck   bool          // a sync of the write-ahead log does not return, or has failed
	Full    bool          // less than MinFree was free: no records are taken
	Free    int64         // bytes
	MinFree int64         // bytes; negative: no limit
	Slowest time.Duration // in which 99 of 100 syncs of the last minute returned; 0: not known
}

// Input is what Assess looks at.
type Input struct {
	Cluster   string
	Self      int32 // the node that is asked
	Now       time.Time
	Base      string // of the cluster's keys in etcd
	Endpoints []string
	EtcdAway  *time.Time // since when; nil: etcd answers
	Disk      Disk
	// RebuildDelay is how long a node may be away before its replicas are
	// rebuilt; negative: for ever.
	RebuildDelay time.Duration

	Snapshot
}

// Assess returns the report about a cluster.
func Assess(in Input) Report {
	r := Report{
		Cluster: in.Cluster, Node: in.Self, Time: in.Now.UTC().Truncate(time.Second), State: Healthy,
		Topics: len(in.View.Topics), Partitions: len(in.Partitions), Findings: []Finding{},
	}
	for _, n := range in.Nodes {
		if n.Alive {
			r.Nodes++
		}
	}
	for _, check := range []func(*Input) []Finding{
		frozen, unknown, unplaced, leaderless, nodesAway, nodesOdd, wishes, lagging, wiped,
		etcdAway, noWinner, disk, brokenKeys, operations, paused, versions,
	} {
		r.Findings = append(r.Findings, check(&in)...)
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })
	if len(r.Findings) > 0 && r.Findings[0].Severity != Info {
		r.State = r.Findings[0].Severity
	}
	return r
}
