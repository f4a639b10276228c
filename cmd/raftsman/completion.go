package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newCompletion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a script that completes commands, flags and names in a shell",
		Long: `Prints a script for bash, zsh, fish or powershell. With it the tab key completes
commands and flags, and the names of topics, groups, nodes, partitions and operations,
for which the cluster is asked: RAFTSMAN_BROKERS and RAFTSMAN_HTTP say where, or the
flags that are typed already. Nothing is offered when it does not answer in time.`,
		Example: `  source <(raftsman completion bash)                             # this shell; needs bash-completion
  raftsman completion bash > /etc/bash_completion.d/raftsman     # all shells from now on
  raftsman completion zsh > "${fpath[1]}/_raftsman"
  raftsman completion fish > ~/.config/fish/completions/raftsman.fish`,
		ValidArgs: shells,
		Args:      exactArgs("SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usageError{fmt.Errorf("shell %q: it must be %s", args[0], strings.Join(shells, ", "))}
		},
	}
}
