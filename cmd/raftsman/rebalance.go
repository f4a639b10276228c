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
	var (
		to     httpFlags
		format outputFormat
	)
	cmd := &cobra.Command{
		Use: use, Short: short, Example: "  raftsman cluster rebalance " + use, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s gateway.Switch
			if err := to.call(cmd, http.MethodPut, "/rebalance", gateway.Switch{Paused: &paused}, &s); err != nil {
				return err
			}
			return render(cmd, format, s, func(w io.Writer) { fmt.Fprintln(w, "rebalancing is "+switchText(s)) })
		},
	}
	to.bind(cmd)
	format.bind(cmd)
	return cmd
}

func newRebalanceStatus() *cobra.Command {
	var (
		to   httpFlags
		view view
	)
	cmd := &cobra.Command{
		Use: "status", Short: "Say whether rebalancing is paused", Example: "  raftsman cluster rebalance status", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return view.run(cmd, func() (shown, error) {
				var s gateway.Switch
				err := to.getJSON(cmd, "/rebalance", &s)
				return shown{value: s, table: func(w io.Writer) { fmt.Fprintln(w, "rebalancing is "+switchText(s)) }}, err
			}, nil)
		},
	}
	to.bind(cmd)
	view.bind(cmd)
	return cmd
}

func switchText(s gateway.Switch) string {
	if s.Paused != nil && *s.Paused {
		return "paused"
	}
	return "on"
}
