package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// view is how a command shows a state: once, or again and again.
type view struct {
	format   outputFormat
	watch    bool
	interval time.Duration
}

// shown is a state: what -o json and yaml show, and the table of it. steady, if
// set, is the value without what changes by itself, as the time.
type shown struct {
	value  any
	table  func(w io.Writer)
	steady any
}

const minInterval = 100 * time.Millisecond

func (v *view) bind(cmd *cobra.Command) {
	v.format.bind(cmd)
	cmd.Flags().BoolVarP(&v.watch, "watch", "w", false, "show it until Ctrl-C: on a terminal drawn anew, else a line for each change")
	cmd.Flags().DurationVar(&v.interval, "interval", 2*time.Second, "with --watch: how often to look")
}

// run shows what look finds. verdict, which may be nil, is the command's result
// when it does not watch.
func (v *view) run(cmd *cobra.Command, look func() (shown, error), verdict func() error) error {
	if v.watch {
		return v.follow(cmd, look)
	}
	s, err := look()
	if err != nil {
		return err
	}
	if err := render(cmd, v.format, s.value, s.table); err != nil || verdict == nil {
		return err
	}
	return verdict()
}

// follow looks until the command is interrupted. What fails is said and tried
// again: one watches while nodes come and go.
func (v *view) follow(cmd *cobra.Command, look func() (shown, error)) error {
	if v.interval < minInterval {
		return usageError{fmt.Errorf("--interval is %s: it must be at least %s", v.interval, minInterval)}
	}
	var show watcher = &changeLog{out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr(), format: v.format}
	if s := screenOf(cmd.OutOrStdout()); s.terminal && v.format == "table" {
		show = &redrawn{out: cmd.OutOrStdout(), every: v.interval}
	}
	tick := time.NewTicker(v.interval)
	defer tick.Stop()
	for {
		s, err := look()
		var usage usageError
		switch {
		case cmd.Context().Err() != nil:
			return nil // how one ends it
		case errors.As(err, &usage):
			return err
		case err != nil:
			err = show.failed(err)
		default:
			err = show.state(s)
		}
		if err != nil {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}

// watcher shows one state after the other.
type watcher interface {
	state(s shown) error
	failed(err error) error
}

// redrawn draws each state over the one before.
type redrawn struct {
	out   io.Writer
	every time.Duration
	last  string // the last state
	drawn bool
}

func (r *redrawn) state(s shown) error {
	var text bytes.Buffer
	s.table(&text)
	r.last = text.String()
	return r.draw("")
}

func (r *redrawn) failed(err error) error {
	return r.draw(bad("not reached now: " + printable(firstLine([]byte(err.Error())))).String())
}

func (r *redrawn) draw(problem string) error {
	scr := screenOf(r.out)
	head := fmt.Sprintf("%s, every %s; Ctrl-C ends", time.Now().Format(time.TimeOnly), r.every)
	if problem != "" {
		head += "; " + problem
	}
	text := scr.layout(head + "\n\n" + r.last)
	lines := strings.SplitAfter(text, "\n")
	if scr.height > 2 && len(lines) > scr.height { // else the top would scroll away
		hidden := len(lines) - scr.height + 1
		lines = append(lines[:scr.height-2], fmt.Sprintf("… and %s", plural(hidden, "line", "lines")))
	}
	var b strings.Builder
	if b.WriteString("\x1b[H"); !r.drawn {
		b.WriteString("\x1b[2J")
		r.drawn = true
	}
	for _, line := range lines {
		b.WriteString(strings.ReplaceAll(line, "\n", "\x1b[K\n"))
	}
	b.WriteString("\x1b[J")
	_, err := io.WriteString(r.out, b.String())
	return err
}

// changeLog prints what has changed: of a table its lines, else the whole document
// in one line.
type changeLog struct {
	out, errs io.Writer
	format    outputFormat
	last      []change
	problem   string
}

// change is a line to print, and what it is known by.
type change struct{ key, line string }

func (c *changeLog) failed(err error) error {
	if text := err.Error(); text != c.problem {
		c.problem = text
		fmt.Fprintf(c.errs, "raftsman: %s; tried again\n", text)
	}
	return nil
}

func (c *changeLog) state(s shown) error {
	c.problem = ""
	now, err := c.lines(s)
	if err != nil {
		return err
	}
	for _, line := range changes(c.last, now) {
		if c.format == "table" {
			line = time.Now().UTC().Format(time.RFC3339) + "  " + line
		}
		if _, err := io.WriteString(c.out, line); err != nil {
			return err
		}
	}
	c.last = now
	return nil
}

// lines are what is compared.
func (c *changeLog) lines(s shown) (lines []change, err error) {
	if c.format == "table" {
		var raw bytes.Buffer
		s.table(&raw)
		laid := strings.SplitAfter(screen{}.layout(raw.String()), "\n")
		for i, key := range strings.Split(raw.String(), "\n") {
			if key != "" {
				lines = append(lines, change{key, laid[i]})
			}
		}
		return lines, nil
	}
	line, err := c.document(s.value)
	key := line
	if s.steady != nil && err == nil {
		key, err = c.document(s.steady)
	}
	return []change{{key, line}}, err
}

// document is a value in one line of JSON, or as a YAML document.
func (c *changeLog) document(value any) (string, error) {
	var buf bytes.Buffer
	if c.format == "yaml" {
		buf.WriteString("---\n")
		if err := encodeYAML(&buf, value); err != nil {
			return "", fmt.Errorf("encode as YAML: %w", err)
		}
		return buf.String(), nil
	}
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return "", fmt.Errorf("encode as JSON: %w", err)
	}
	return buf.String(), nil
}

// changes are the lines of now that were not there, and those rows of the last
// table that are gone: none begins with the same cell.
func changes(last, now []change) (out []string) {
	for _, c := range now {
		if !slices.ContainsFunc(last, func(l change) bool { return l.key == c.key }) {
			out = append(out, c.line)
		}
	}
	first := func(c change) string { cell, _, _ := strings.Cut(c.key, "\t"); return cell }
	for _, l := range last {
		if strings.Contains(l.key, "\t") && !slices.ContainsFunc(now, func(c change) bool { return first(c) == first(l) }) {
			out = append(out, "gone: "+l.line)
		}
	}
	return out
}
