package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

// outputFormat is the flag -o: how a command shows its result.
type outputFormat string

var outputFormats = []string{"table", "json", "yaml"}

func (o *outputFormat) String() string { return string(*o) }
func (o *outputFormat) Type() string   { return "string" }

func (o *outputFormat) Set(text string) error {
	if !slices.Contains(outputFormats, text) {
		return fmt.Errorf("it must be %s", strings.Join(outputFormats, ", "))
	}
	*o = outputFormat(text)
	return nil
}

func (o *outputFormat) bind(cmd *cobra.Command) {
	*o = "table"
	cmd.Flags().VarP(o, "output", "o", "how to show the result: "+strings.Join(outputFormats, ", "))
	err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(outputFormats, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(fmt.Sprintf("BUG: completion of --output: %v", err))
	}
}

// render shows a value. Its JSON tags are its names in JSON and in YAML; table
// writes cells that end with tabs, and lines.
func render(cmd *cobra.Command, format outputFormat, value any, table func(w io.Writer)) error {
	var out bytes.Buffer // whole, so that an error leaves no half of it
	switch format {
	case "json":
		if err := encodeJSON(&out, value); err != nil {
			return fmt.Errorf("encode as JSON: %w", err)
		}
	case "yaml":
		if err := encodeYAML(&out, value); err != nil {
			return fmt.Errorf("encode as YAML: %w", err)
		}
	default:
		var text bytes.Buffer
		table(&text)
		out.WriteString(screenOf(cmd.OutOrStdout()).layout(text.String()))
	}
	_, err := cmd.OutOrStdout().Write(out.Bytes())
	return err
}

func encodeJSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}

// encodeYAML goes by way of JSON, which is YAML in another style, so that names
// and order are the same in both.
func encodeYAML(w io.Writer, value any) error {
	var buf bytes.Buffer
	if err := encodeJSON(&buf, value); err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(buf.Bytes(), &doc); err != nil {
		return err
	}
	blockStyle(&doc)
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return err
	}
	return enc.Close()
}

func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// orDash shows that there is nothing.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// numbers shows a list of ids.
func numbers(ns []int32) string {
	parts := make([]string, len(ns))
	for i, n := range ns {
		parts[i] = fmt.Sprint(n)
	}
	return orDash(strings.Join(parts, ","))
}

// listOf is a list that is [] in JSON when nothing is in it.
func listOf[T any](list []T) []T { return append([]T{}, list...) }

// plural counts things.
func plural[N ~int | ~int32 | ~int64](n N, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}

// isTerminal says whether a person reads or types f.
func isTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }
