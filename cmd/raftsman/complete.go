package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
)

// completeTimeout is short: a person waits with a finger on the tab key.
const completeTimeout = time.Second

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

// complete offers what the cluster names through the Kafka protocol; nothing when
// it does not answer.
func (k *kafkaFlags) complete(cmd *cobra.Command, args []string, list func(ctx context.Context, adm *kadm.Client) ([]string, error)) (names []string, _ cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
	defer cancel()
	cmd.SetContext(ctx)
	err := k.admin(cmd, func(ctx context.Context, adm *kadm.Client) (err error) {
		names, err = list(ctx, adm)
		return err
	})
	if err != nil {
		return nil, none
	}
	slices.Sort(names)
	return names, none
}

func (k *kafkaFlags) completeTopics(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return k.complete(cmd, args, func(ctx context.Context, adm *kadm.Client) ([]string, error) {
		topics, err := adm.ListTopics(ctx)
		return topics.Names(), err
	})
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
