package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/health"
)

func newDrain() *cobra.Command {
	var ask opFlags
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Take a node's leaderships and give it no new replicas, as before a restart",
		Long: `Hands every partition that the node leads to another one, and places nothing on it
until raftsman node undrain. Its replicas stay, and follow.` + opHelp,
		Example: `  raftsman node drain 2
  raftsman node drain 2 --timeout 5m && systemctl restart raftsman && raftsman node undrain 2`,
		Args: exactArgs("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error { return ask.runOnNode(cmd, cluster.OpDrain, args[0]) },
	}
	ask.bind(cmd)
	cmd.ValidArgsFunction = ask.to.completeNodes
	return cmd
}

func newUndrain() *cobra.Command {
	var ask opFlags
	cmd := &cobra.Command{
		Use:     "undrain NODE",
		Short:   "Put a node back into service, after drain or decommission",
		Long:    "Ends what drain or decommission asked for. Replicas that have moved away stay where\nthey are until the cluster is balanced again." + opHelp,
		Example: "  raftsman node undrain 2",
		Args:    exactArgs("NODE"),
		RunE:    func(cmd *cobra.Command, args []string) error { return ask.runOnNode(cmd, cluster.OpUndrain, args[0]) },
	}
	ask.bind(cmd)
	cmd.ValidArgsFunction = ask.to.completeNodes
	return cmd
}

func newDecommission() *cobra.Command {
	var (
		ask opFlags
		yes bool
	)
	cmd := &cobra.Command{
		Use:   "decommission NODE",
		Short: "Move everything off a node, for good",
		Long: `Moves all replicas off the node; when it is done the node can be stopped and its
disk wiped. A node that is dead already can be decommissioned too: its replicas
are rebuilt from the others at once. Asks first when a person types it.` + opHelp,
		Example: `  raftsman node decommission 2
  raftsman node decommission 2 --yes --no-wait`,
		Args: exactArgs("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				if err := confirmDecommission(cmd, &ask.to, args[0]); err != nil {
					return err
				}
			}
			return ask.runOnNode(cmd, cluster.OpDecommission, args[0])
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	ask.bind(cmd)
	cmd.ValidArgsFunction = ask.to.completeNodes
	return cmd
}

// confirmDecommission asks a person who types; a script means what it says.
func confirmDecommission(cmd *cobra.Command, to *httpFlags, text string) error {
	if in, ok := cmd.InOrStdin().(*os.File); !ok || !isTerminal(in) {
		return nil
	}
	n, err := to.node(cmd, text)
	if err != nil {
		return err
	}
	return askDecommission(cmd, n)
}

func askDecommission(cmd *cobra.Command, n health.Node) error {
	size := ""
	if n.Bytes > 0 {
		size = ", about " + health.Size(n.Bytes)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Move %s%s off node %d, for good? [y/N] ", plural(n.Replicas, "replica", "replicas"), size, n.Node.Node)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return exitError{exitCancelled, errors.New("not confirmed; nothing was done (--yes does not ask)")}
	}
	return nil
}

func (o *opFlags) runOnNode(cmd *cobra.Command, kind cluster.OpKind, text string) error {
	node, err := nodeNumber(text)
	if err != nil {
		return err
	}
	return o.run(cmd, cluster.Op{Kind: kind, Node: node})
}
