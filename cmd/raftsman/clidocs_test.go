package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const docsFile = "../../docs/cli.md"

// TestDocumentedCommands: docs/cli.md is what the commands say; go test -run
// TestDocumentedCommands -update writes it.
func TestDocumentedCommands(t *testing.T) {
	want := documentation()
	if *update {
		if err := os.WriteFile(docsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/cli.md is not what the commands say: go test ./cmd/raftsman -run TestDocumentedCommands -update")
	}
}

func documentation() string {
	var b strings.Builder
	root := newRoot()
	b.WriteString("# Commands\n\n<!-- generated: go test ./cmd/raftsman -run TestDocumentedCommands -update -->\n\n")
	fmt.Fprintf(&b, "%s\n\n```console\n%s\n```\n\n| command | what it does |\n|---|---|\n", root.Long, unindented(root.Example))
	eachCommand(root, func(cmd *cobra.Command) {
		if cmd.HasParent() && !cmd.HasSubCommands() {
			fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "-"), cmd.Short)
		}
	})
	eachCommand(root, func(cmd *cobra.Command) {
		if !cmd.HasParent() || cmd.HasSubCommands() {
			return
		}
		text := cmd.Long
		if text == "" {
			text = cmd.Short + "."
		}
		fmt.Fprintf(&b, "\n## %s\n\n```text\n%s\n\n%s\n\n%s\n```\n\n```console\n%s\n```\n", cmd.CommandPath(), cmd.UseLine(), text,
			strings.TrimRight(cmd.LocalFlags().FlagUsagesWrapped(100), "\n"), unindented(cmd.Example))
	})
	return b.String()
}

// unindented is an example with a prompt, as in a terminal.
func unindented(example string) string {
	var lines []string
	for line := range strings.Lines(example) {
		lines = append(lines, "$ "+strings.TrimSpace(line))
	}
	return strings.Join(lines, "\n")
}
