package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/pkg/node"
)

// Exit codes of cluster verify.
const (
	exitDifferences = 3
	exitIncomplete  = 4
)

// verifyReport is what cluster verify shows.
type verifyReport struct {
	node.VerifyProgress
	Complete    bool              `json:"complete"` // all of every replica was compared
	Differences []node.Difference `json:"differences"`
	NotListed   int               `json:"differences_not_listed"` // there were too many
	Remaining   int               `json:"differences_remaining"`  // that were not repaired
	Incomplete  []node.Incomplete `json:"incomplete"`
}

const (
	maxVerifyLine  = 4 << 20 // bytes of one line of a node's answer
	maxDifferences = 1000    // that are listed; the rest are counted
)

func newClusterVerify() *cobra.Command {
	var (
		to     httpFlags
		format outputFormat
		opts   node.VerifyOptions
		quiet  bool
	)
	cmd := &cobra.Command{
		Use:   "verify [TOPIC...]",
		Short: "Compare the replicas of all partitions, byte by byte, and find damage",
		Long: `Asks any node to compare the replicas of all partitions, or of the topics that are
named: the stored record batches of the range that all replicas have, and the
checksums of batches and segments. The cluster works on meanwhile.

damage      a checksum proves that a copy is not what was written. With --repair the
            segment is fetched anew from a replica that has it whole, and taken only
            if its checksum is the one that the damaged replica has kept. The damaged
            file stays in the replica's directory, in damaged/.
divergence  copies differ and all are what was written: nothing is changed.

Exit codes: 0 no differences, or all were repaired; 3 differences remain; 4 no
differences, but a replica could not be asked, or not wholly; 1 failed; 2 wrong usage.`,
		Example: `  raftsman cluster verify
  raftsman cluster verify orders --repair
  raftsman cluster verify --rate 8388608 -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.Rate < 0 {
				return usageError{errors.New("--rate is bytes per second, or 0 for no limit")}
			}
			opts.Topics = args
			report, err := runVerify(cmd, &to, opts, quiet)
			if err != nil {
				return err
			}
			if err := render(cmd, format, report, report.table); err != nil {
				return err
			}
			return report.verdict()
		},
	}
	cmd.Flags().Int64Var(&opts.Rate, "rate", 64<<20, "how many bytes a second each node reads for this at most, 0 for no limit")
	cmd.Flags().BoolVar(&opts.Repair, "repair", false, "mend what a checksum proves damaged, from another replica")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "show no progress")
	to.bind(cmd)
	format.bind(cmd)
	cmd.ValidArgsFunction = to.completeTopics
	return cmd
}

func runVerify(cmd *cobra.Command, to *httpFlags, opts node.VerifyOptions, quiet bool) (*verifyReport, error) {
	body, err := json.Marshal(opts)
	if err != nil {
		return nil, err
	}
	resp, err := to.post(cmd, "/cluster/verify", body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // what there is of a reason
		return nil, fmt.Errorf("POST /cluster/verify: %s: %s", resp.Status, firstLine(text))
	}
	report := &verifyReport{Differences: []node.Difference{}, Incomplete: []node.Incomplete{}}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxVerifyLine)
	for lines.Scan() {
		var e node.VerifyEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("POST /cluster/verify: not what a raftsman node answers; is --http right? %w", err)
		}
		switch {
		case e.Error != "":
			return nil, errors.New(e.Error)
		case e.Difference != nil:
			report.add(*e.Difference)
		case e.Incomplete != nil:
			report.Incomplete = append(report.Incomplete, *e.Incomplete)
		case e.Progress != nil && !quiet:
			p := e.Progress
			fmt.Fprintf(cmd.ErrOrStderr(), "%d of %s verified, %d batches, %d MiB read, %s so far\n",
				p.Partitions, plural(p.Of, "partition", "partitions"), p.Batches, p.Bytes>>20, plural(len(report.Differences)+report.NotListed, "difference", "differences"))
		case e.Done != nil:
			report.VerifyProgress, report.Complete = *e.Done, len(report.Incomplete) == 0
			return report, nil
		}
	}
	return nil, fmt.Errorf("the node ended before the verification did: %w", cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
}

func (r *verifyReport) add(d node.Difference) {
	if !d.Repaired {
		r.Remaining++
	}
	if len(r.Differences) == maxDifferences {
		r.NotListed++
		return
	}
	r.Differences = append(r.Differences, d)
}

// verdict is the error, with its exit code, that a report amounts to.
func (r *verifyReport) verdict() error {
	switch {
	case r.Remaining > 0:
		return exitError{exitDifferences, errors.New(plural(r.Remaining, "difference remains", "differences remain"))}
	case !r.Complete:
		return exitError{exitIncomplete, fmt.Errorf("not everything could be compared: %s", plural(len(r.Incomplete), "gap", "gaps"))}
	}
	return nil
}

func (r *verifyReport) table(w io.Writer) {
	cells(w, "partitions", r.Partitions)
	cells(w, "replicas", r.Replicas)
	cells(w, "batches", r.Batches)
	cells(w, "bytes read", r.Bytes)
	cells(w, "differences", len(r.Differences)+r.NotListed)
	if len(r.Differences) > 0 {
		fmt.Fprintln(w)
		heading(w, "PARTITION", "OFFSETS", "KIND", "NODE", "REPLICA", "COPY", "FILE", "BYTE", "REPAIR", "REASON")
		for _, d := range r.Differences {
			for _, c := range d.Copies {
				cells(w, fmt.Sprintf("%s/%d", d.Topic, d.Partition), fmt.Sprintf("%d-%d", d.Offset, d.Last), d.Kind,
					c.Node, c.Replica, c.State, orDash(c.File), c.Pos, orDash(c.Repair), orDash(about(c)))
			}
		}
	}
	if r.NotListed > 0 {
		fmt.Fprintf(w, "and %d more\n", r.NotListed)
	}
	if len(r.Incomplete) > 0 {
		fmt.Fprintln(w)
		heading(w, "NOT COMPARED", "NODE", "REPLICA", "REASON")
		for _, i := range r.Incomplete {
			cells(w, fmt.Sprintf("%s/%d", i.Topic, i.Partition), i.Node, i.Replica, i.Reason)
		}
	}
}

// about says what is wrong with a copy, or what it is.
func about(c node.Copy) string {
	if c.Reason != "" || c.State != node.CopyIntact {
		return c.Reason
	}
	return fmt.Sprintf("%d bytes, crc32c %08x, leader epoch %d", c.Bytes, c.CRC, c.Epoch)
}

// post sends JSON to the first node that can be reached. The answer may take any
// time.
func (h *httpFlags) post(cmd *cobra.Command, path string, body []byte) (*http.Response, error) {
	addrs, err := h.addresses(cmd)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, addr := range addrs {
		resp, err := h.postTo(cmd, addr, path, body)
		if err == nil {
			return resp, nil
		}
		if errs = append(errs, err); cmd.Context().Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func (h *httpFlags) postTo(cmd *cobra.Command, addr, path string, body []byte) (*http.Response, error) {
	u, err := httpURL(addr, path)
	if err != nil {
		return nil, usageError{fmt.Errorf("--http: %w", err)}
	}
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodPost, u, bytes.NewReader(body))
	if err != nil {
		return nil, usageError{fmt.Errorf("--http: %w", err)}
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("can't reach the node at %s: %w; is it running, and is --http right?", u, err)
	}
	return resp, err
}
