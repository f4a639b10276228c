package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
)

// completeTimeout is short: a person waits with a finger on the tab key.
const completeTimeout = 2 * time.Second

// complete offers what a node names; nothing when none answers.
func complete[T any](h *httpFlags, cmd *cobra.Command, args []string, path string, name func(T) string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
	defer cancel()
	cmd.SetContext(ctx)
	var list []T
	if err := h.getJSON(cmd, path, &list); err != nil {
		return nil, none
	}
	var names []string
	for _, one := range list {
		names = append(names, name(one))
	}
	return slices.Compact(names), none
}

func (h *httpFlags) completeNodes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(h, cmd, args, "/nodes", func(n health.Node) string { return fmt.Sprintf("%d\t%s, %s", n.Node.Node, n.HTTP, nodeState(n)) })
}

func (h *httpFlags) completeTopics(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(h, cmd, nil, "/partitions", func(p health.Partition) string { return p.Topic })
}

func (h *httpFlags) completePartitions(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(h, cmd, args, "/partitions", func(p health.Partition) string { return p.TP().String() })
}

func (h *httpFlags) completeOps(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(h, cmd, args, "/ops", func(o gateway.Operation) string { return o.ID + "\t" + health.Title(o.Op) + ", " + opState(o) })
}

// completeFlag completes a flag's value.
func completeFlag(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return f(cmd, nil, typed)
	})
	if err != nil {
		panic(fmt.Sprintf("BUG: completion of --%s: %v", flag, err))
	}
}
