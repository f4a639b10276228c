package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func newHealthcheck() *cobra.Command {
	var (
		to      httpFlags
		timeout time.Duration
		format  outputFormat
	)
	cmd := &cobra.Command{
		Use:     "healthcheck",
		Short:   "Ask a node whether it serves: exit code 0 or 1",
		Example: "  raftsman healthcheck --http 127.0.0.1:8080",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, body, err := to.get(cmd, "/readyz", timeout)
			if err != nil {
				return err
			}
			if status != http.StatusOK {
				return fmt.Errorf("the node answers %d: %s", status, firstLine(body))
			}
			return render(cmd, format, map[string]bool{"ready": true}, func(w io.Writer) { fmt.Fprintln(w, "ready") })
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for the answer")
	to.bind(cmd)
	format.bind(cmd)
	return cmd
}
