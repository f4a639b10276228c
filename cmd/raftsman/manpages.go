package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManpages is for packages, and hidden. The pages' date is SOURCE_DATE_EPOCH, if
// that is set.
func newManpages() *cobra.Command {
	return &cobra.Command{
		Use:     "manpages DIR",
		Short:   "Write a manual page of each command to a directory",
		Example: "  raftsman manpages /usr/share/man/man1",
		Args:    exactArgs("DIR"),
		Hidden:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true // it has the day of the build
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			header := &doc.GenManHeader{Source: "raftsman", Manual: "raftsman", Section: "1"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("write manual pages to %s: %w", args[0], err)
			}
			return nil
		},
	}
}
