package main

import (
	"io"
	"time"

	"github.com/spf13/cobra"
)

func newNode() *cobra.Command {
	return group("node", "See the nodes", newNodeList())
}

func newNodeList() *cobra.Command {
	var (
		to     httpFlags
		format outputFormat
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the live nodes",
		Example: `  raftsman node list
  raftsman node list --http 10.0.0.1:8080 -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var info clusterInfo
			if err := to.getJSON(cmd, "/cluster.json", &info); err != nil {
				return err
			}
			return render(cmd, format, info.Nodes, func(w io.Writer) {
				cells(w, "ID", "KAFKA", "HTTP", "PEER", "RACK", "STATE", "VERSION", "LEADS", "REPLICAS", "STARTED")
				for _, n := range info.Nodes {
					cells(w, n.Node, n.Kafka, n.HTTP, n.Peer, orDash(n.Rack), n.State, orDash(n.Version), n.Leads, n.Replicas,
						n.Started.UTC().Format(time.RFC3339))
				}
			})
		},
	}
	to.bind(cmd)
	format.bind(cmd)
	return cmd
}
