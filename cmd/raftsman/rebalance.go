package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/gateway"
)

func newRebalance() *cobra.Command {
	return group("rebalance", "Pause and resume the spreading of replicas and leaders",
		newSwitch("pause", "Stop spreading replicas and leaders anew, until resume", true),
		newSwitch("resume", "Spread replicas and leaders again", false),
		newRebalanceStatus())
}

func newSwitch(use, short string, paused bool) *cobra.Command {
	return rebalanceCommand(use, short, func(cmd *cobra.Command, to *httpFlags) (s gateway.Switch, err error) {
		return s, to.call(cmd, http.MethodPut, "/rebalance", gateway.Switch{Paused: &paused}, &s)
	})
}

func newRebalanceStatus() *cobra.Command {
	return rebalanceCommand("status", "Say whether rebalancing is paused", func(cmd *cobra.Command, to *httpFlags) (s gateway.Switch, err error) {
		return s, to.getJSON(cmd, "/rebalance", &s)
	})
}

func rebalanceCommand(use, short string, f func(*cobra.Command, *httpFlags) (gateway.Switch, error)) *cobra.Command {
	var (
		to     httpFlags
		format outputFormat
	)
	cmd := &cobra.Command{
		Use: use, Short: short, Example: "  raftsman cluster rebalance " + use, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f(cmd, &to)
			if err != nil {
				return err
			}
			return render(cmd, format, s, func(w io.Writer) { fmt.Fprintln(w, "rebalancing is "+switchText(s)) })
		},
	}
	to.bind(cmd)
	format.bind(cmd)
	return cmd
}

func switchText(s gateway.Switch) string {
	if s.Paused != nil && *s.Paused {
		return "paused"
	}
	return "on"
}
