package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/health"
)

func newNode() *cobra.Command {
	return group("node", "See the nodes, and take them out of service",
		newNodeList(), newNodeDescribe(), newDrain(), newUndrain(), newDecommission())
}

func newNodeList() *cobra.Command {
	var (
		to   httpFlags
		view view
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the nodes, those that are away too",
		Example: `  raftsman node list
  raftsman node list --watch --interval 1s
  raftsman node list --http 10.0.0.1:8080,10.0.0.2:8080 -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return view.run(cmd, func() (shown, error) {
				nodes, err := to.nodes(cmd)
				return shown{value: nodes, table: func(w io.Writer) { nodeTable(w, nodes) }}, err
			}, nil)
		},
	}
	to.bind(cmd)
	view.bind(cmd)
	return cmd
}

func nodeTable(w io.Writer, nodes []health.Node) {
	heading(w, "ID", "KAFKA", "HTTP", "PEER", "RACK", "STATE", "VERSION", "LEADS", "REPLICAS", "STARTED")
	for _, n := range nodes {
		cells(w, n.Node.Node, orDash(n.Kafka), orDash(n.HTTP), orDash(n.Peer), orDash(n.Rack), stateTone(nodeState(n)), orDash(n.Version), n.Leads, n.Replicas,
			n.Started.UTC().Format(time.RFC3339))
	}
}

func (h *httpFlags) nodes(cmd *cobra.Command) (nodes []health.Node, err error) {
	nodes = []health.Node{}
	return nodes, h.getJSON(cmd, "/nodes", &nodes)
}

// nodeState is a node's state in a word or two: the worst, then what was asked
// for.
func nodeState(n health.Node) string {
	state := n.State
	switch {
	case !n.Alive:
		state = "away"
	case !n.Registered:
		state = "unregistered"
	}
	if n.Wish != "" {
		return state + "," + n.Wish
	}
	return orDash(state)
}

// stateTone colours a state by its first word.
func stateTone(state string) tone {
	word, _, _ := strings.Cut(state, ",")
	switch {
	case word == "away", state == "refused", state == "failed":
		return bad(state)
	case state == "ready", state == "done":
		return good(state)
	}
	return warn(state)
}

// nodeDescription is what node describe shows.
type nodeDescription struct {
	health.Node
	Partitions []health.Partition `json:"partitions"`
}

func newNodeDescribe() *cobra.Command {
	var (
		to   httpFlags
		view view
	)
	cmd := &cobra.Command{
		Use:   "describe NODE",
		Short: "Show a node and the partitions it holds",
		Example: `  raftsman node describe 2
  raftsman node describe 2 -o json`,
		Args: exactArgs("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return view.run(cmd, func() (shown, error) {
				n, err := to.node(cmd, args[0])
				if err != nil {
					return shown{}, err
				}
				d := nodeDescription{Node: n, Partitions: []health.Partition{}}
				err = to.getJSON(cmd, fmt.Sprintf("/partitions?node=%d", n.Node.Node), &d.Partitions)
				return shown{value: d, table: d.table}, err
			}, nil)
		},
	}
	cmd.ValidArgsFunction = to.completeNodes
	to.bind(cmd)
	view.bind(cmd)
	return cmd
}

// node finds a node by its number as it was typed.
func (h *httpFlags) node(cmd *cobra.Command, text string) (n health.Node, err error) {
	id, err := nodeNumber(text)
	if err != nil {
		return n, err
	}
	nodes, err := h.nodes(cmd)
	if err != nil {
		return n, err
	}
	i := slices.IndexFunc(nodes, func(n health.Node) bool { return n.Node.Node == id })
	if i < 0 {
		var ids []int32
		for _, n := range nodes {
			ids = append(ids, n.Node.Node)
		}
		return n, fmt.Errorf("there is no node %d, the nodes are %s; raftsman node list shows them", id, numbers(ids))
	}
	return nodes[i], nil
}

func nodeNumber(text string) (int32, error) {
	id, err := strconv.ParseInt(text, 10, 32)
	if err != nil || id < 1 {
		return 0, usageError{fmt.Errorf("%q is not the number of a node; raftsman node list shows them", text)}
	}
	return int32(id), nil
}

func (d *nodeDescription) table(w io.Writer) {
	cells(w, "node", d.Node.Node.Node)
	cells(w, "state", stateTone(nodeState(d.Node)))
	if d.AwaySince != nil {
		cells(w, "away since", d.AwaySince.Format(time.RFC3339))
	}
	cells(w, "kafka", orDash(d.Kafka))
	cells(w, "http", orDash(d.HTTP))
	cells(w, "peer", orDash(d.Peer))
	cells(w, "rack", orDash(d.Rack))
	cells(w, "version", orDash(d.Version))
	cells(w, "incarnation", orDash(d.Incarnation))
	cells(w, "started", d.Started.UTC().Format(time.RFC3339))
	cells(w, "leads", d.Leads)
	cells(w, "replicas", fmt.Sprintf("%d, %d not in sync", d.Replicas, d.Behind))
	if d.Bytes > 0 {
		cells(w, "data", "about "+health.Size(d.Bytes))
	}
	fmt.Fprintln(w)
	partitionTable(w, d.Partitions)
}
