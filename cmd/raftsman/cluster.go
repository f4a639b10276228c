package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
)

// clusterInfo is /cluster.json.
type clusterInfo struct {
	Cluster   string     `json:"cluster"`
	ClusterID string     `json:"cluster_id"`
	Etcd      []string   `json:"etcd"`
	Winner    int32      `json:"winner"`
	Frozen    string     `json:"frozen,omitempty"`
	Epoch     int64      `json:"epoch,omitempty"` // of the metadata
	Nodes     []nodeInfo `json:"nodes"`
}

// nodeInfo is a live node in it.
type nodeInfo struct {
	Node        int32     `json:"node"`
	Incarnation string    `json:"incarnation"`
	Kafka       string    `json:"kafka"`
	HTTP        string    `json:"http"`
	Peer        string    `json:"peer"`
	Rack        string    `json:"rack,omitempty"`
	State       string    `json:"state"`
	Version     string    `json:"version,omitempty"`
	Leads       int       `json:"leads"`
	Replicas    int       `json:"replicas"`
	Started     time.Time `json:"started"`
}

// clusterStatus is what cluster status shows.
type clusterStatus struct {
	clusterInfo
	Topics          int             `json:"topics"`
	Partitions      int             `json:"partitions"`
	Leaderless      int             `json:"leaderless"`
	UnderReplicated int             `json:"under_replicated"`
	Health          health.Severity `json:"health,omitempty"`
	Rebalance       string          `json:"rebalance,omitempty"` // on, paused
	Operations      int             `json:"operations"`          // that have not ended
}

func newCluster() *cobra.Command {
	return group("cluster", "See the whole cluster, compare its replicas, and mend its metadata",
		newClusterStatus(), newClusterHealth(), newClusterVerify(), newRebalance(), newRestoreMetadata())
}

func newClusterStatus() *cobra.Command {
	var (
		to   httpFlags
		view view
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the nodes, the winner, and partitions that lack something",
		Long: `Asks a node for the cluster, and the Kafka addresses that the nodes advertise for
its topics. Exits with 1 if a partition has no leader.`,
		Example: `  raftsman cluster status
  raftsman cluster status --http 10.0.0.1:8080 -o json
  raftsman cluster status --watch`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s *clusterStatus
			return view.run(cmd, func() (_ shown, err error) {
				s, err = statusOf(cmd, &to)
				return shown{value: s, table: s.table}, err
			}, func() error {
				if s.Leaderless > 0 {
					return fmt.Errorf("%s without a leader; raftsman partition list --problems shows them", plural(s.Leaderless, "partition", "partitions"))
				}
				return nil
			})
		},
	}
	to.bind(cmd)
	view.bind(cmd)
	return cmd
}

func statusOf(cmd *cobra.Command, to *httpFlags) (*clusterStatus, error) {
	s := new(clusterStatus)
	if err := to.getJSON(cmd, "/cluster.json", &s.clusterInfo); err != nil {
		return nil, err
	}
	if err := s.operations(cmd, to); err != nil {
		return nil, err
	}
	var kafka kafkaFlags
	for _, n := range s.Nodes {
		kafka.brokers = append(kafka.brokers, n.Kafka)
	}
	if len(kafka.brokers) == 0 {
		return s, nil // nobody is registered: nobody to ask
	}
	err := kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
		details, err := adm.ListTopicsWithInternal(ctx)
		for _, t := range details {
			info := summary(t)
			s.Topics++
			s.Partitions += info.Partitions
			s.Leaderless += info.Leaderless
			s.UnderReplicated += info.UnderReplicated
		}
		return err
	})
	return s, err
}

// operations adds what operators have asked for, and what is wrong.
func (s *clusterStatus) operations(cmd *cobra.Command, to *httpFlags) error {
	var (
		report    health.Report
		rebalance gateway.Switch
		ops       []gateway.Operation
	)
	for path, into := range map[string]any{"/health.json": &report, "/rebalance": &rebalance, "/ops": &ops} {
		if err := to.getJSON(cmd, path, into); err != nil {
			return err
		}
	}
	s.Health, s.Rebalance = report.State, switchText(rebalance)
	for _, o := range ops {
		if !o.State.Final() {
			s.Operations++
		}
	}
	return nil
}

func (s *clusterStatus) table(w io.Writer) {
	winner := "none"
	if s.Winner > 0 {
		winner = fmt.Sprintf("node %d", s.Winner)
	}
	cells(w, "cluster", s.Cluster)
	cells(w, "cluster id", s.ClusterID)
	cells(w, "etcd", strings.Join(s.Etcd, ","))
	cells(w, "winner", winner)
	if s.Frozen != "" {
		cells(w, "frozen", bad(s.Frozen))
	}
	cells(w, "topics", s.Topics)
	cells(w, "partitions", fmt.Sprintf("%d, %d without a leader, %d under-replicated", s.Partitions, s.Leaderless, s.UnderReplicated))
	cells(w, "operations", fmt.Sprintf("%d running or waiting", s.Operations))
	cells(w, "rebalancing", s.Rebalance)
	cells(w, "health", fmt.Sprintf("%s (raftsman cluster health)", s.Health))
	fmt.Fprintln(w)
	heading(w, "NODE", "KAFKA", "HTTP", "RACK", "STATE", "LEADS", "REPLICAS")
	for _, n := range s.Nodes {
		cells(w, n.Node, n.Kafka, n.HTTP, orDash(n.Rack), stateTone(n.State), n.Leads, n.Replicas)
	}
}
