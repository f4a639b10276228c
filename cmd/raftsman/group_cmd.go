package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// groupInfo is a consumer group in a list.
type groupInfo struct {
	Group        string `json:"group"`
	State        string `json:"state"`
	ProtocolType string `json:"protocol_type"`
	Coordinator  int32  `json:"coordinator"`
}

func newGroup() *cobra.Command {
	return group("group", "See consumer groups, move their offsets, delete them",
		newGroupList(), newGroupDescribe(), newGroupReset(), newGroupDelete())
}

func newGroupList() *cobra.Command {
	var (
		kafka  kafkaFlags
		view   view
		states []string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the consumer groups",
		Example: `  raftsman group list
  raftsman group list --state Empty -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return view.run(cmd, kafka.look(cmd, func(ctx context.Context, adm *kadm.Client) (shown, error) {
				listed, err := adm.ListGroups(ctx, states...)
				if err != nil {
					return shown{}, fmt.Errorf("list groups: %w", err)
				}
				groups := []groupInfo{}
				for _, g := range listed.Sorted() {
					groups = append(groups, groupInfo{g.Group, g.State, g.ProtocolType, g.Coordinator})
				}
				return shown{value: groups, table: func(w io.Writer) { groupTable(w, groups) }}, nil
			}), nil)
		},
	}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only groups in these states: Stable, Empty, PreparingRebalance, CompletingRebalance")
	completeFlag(cmd, "state", cobra.FixedCompletions([]string{"Stable", "Empty", "PreparingRebalance", "CompletingRebalance"}, cobra.ShellCompDirectiveNoFileComp))
	kafka.bind(cmd)
	view.bind(cmd)
	return cmd
}

func groupTable(w io.Writer, groups []groupInfo) {
	heading(w, "GROUP", "STATE", "TYPE", "COORDINATOR")
	for _, g := range groups {
		cells(w, g.Group, g.State, orDash(g.ProtocolType), g.Coordinator)
	}
}

// completeGroups offers the groups that there are.
func (k *kafkaFlags) completeGroups(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return k.complete(cmd, args, func(ctx context.Context, adm *kadm.Client) ([]string, error) {
		listed, err := adm.ListGroups(ctx)
		return listed.Groups(), err
	})
}

// knownGroup describes a group that must exist.
func knownGroup(ctx context.Context, adm *kadm.Client, name string) (kadm.DescribedGroup, error) {
	described, err := adm.DescribeGroups(ctx, name)
	if err == nil {
		err = described.Error()
	}
	g := described[name]
	switch {
	case errors.Is(err, kerr.GroupIDNotFound), err == nil && g.State == "Dead":
		return g, unknownGroup(ctx, adm, name)
	case err != nil:
		return g, fmt.Errorf("describe group %q: %w", name, explained(err, g.ErrMessage))
	}
	return g, nil
}

// unknownGroup says that there is no such group, and which one may be meant.
func unknownGroup(ctx context.Context, adm *kadm.Client, name string) error {
	all, _ := adm.ListGroups(ctx) // without them nothing is suggested
	if near := nearestName(name, all.Groups()); near != "" {
		return fmt.Errorf("group %q does not exist; did you mean %q? raftsman group list shows all", name, near)
	}
	return fmt.Errorf("group %q does not exist; raftsman group list shows all", name)
}

func newGroupDelete() *cobra.Command {
	var (
		kafka    kafkaFlags
		tolerant bool
		format   outputFormat
	)
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a group without members and all its offsets",
		Example: "  raftsman group delete orders-billing",
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				resp, err := adm.DeleteGroup(ctx, args[0])
				if err == nil {
					err = resp.Err
				}
				switch {
				case errors.Is(err, kerr.GroupIDNotFound) && tolerant:
					return renderDeleted(cmd, format, deleted{args[0], false})
				case errors.Is(err, kerr.GroupIDNotFound):
					return unknownGroup(ctx, adm, args[0])
				case errors.Is(err, kerr.NonEmptyGroup):
					return exitError{exitRefused, fmt.Errorf("group %q has members: stop them first (raftsman group describe %s shows them)", args[0], args[0])}
				case err != nil:
					return fmt.Errorf("delete group %q: %w", args[0], err)
				}
				return renderDeleted(cmd, format, deleted{args[0], true})
			})
		},
	}
	cmd.Flags().BoolVar(&tolerant, "if-exists", false, "succeed if there is no such group")
	cmd.ValidArgsFunction = kafka.completeGroups
	kafka.bind(cmd)
	format.bind(cmd)
	return cmd
}
