package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A results file has a line of JSON for each run, and one for each of its rounds.

// runInfo is what a run's rounds have in common.
type runInfo struct {
	Kind     string            `json:"kind"` // "run"
	Run      string            `json:"run"`
	Time     time.Time         `json:"time"`
	Commit   string            `json:"commit"`
	Machine  machine           `json:"machine"`
	Versions map[string]string `json:"versions"` // of each system
	Flags    []string          `json:"flags"`
}

type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	MiB    int64  `json:"mib"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// A round is what was found in one.
type round struct {
	Kind      string    `json:"kind"` // "round"
	Run       string    `json:"run"`
	Time      time.Time `json:"time"`
	Workload  string    `json:"workload"`
	System    string    `json:"system"`
	Round     int       `json:"round"`
	Try       int       `json:"try"`
	Discarded string    `json:"discarded,omitempty"` // why it does not count
	Error     string    `json:"error,omitempty"`
	Figures   figures   `json:"figures,omitempty"`
	Usage     usage     `json:"usage"`
	Verdict   verdict   `json:"verdict"`
}

// line is for people who watch.
func (r round) line() string {
	s := fmt.Sprintf("%-15s %-17s round %d.%d:", r.Workload, r.System, r.Round, r.Try)
	for _, name := range figureOrder {
		if v, ok := r.Figures[name]; ok {
			s += fmt.Sprintf(" %s=%s", name, number(v))
		}
	}
	s += fmt.Sprintf(" others=%.2f acked=%d read=%d", r.Usage.foreign(), r.Verdict.Acked, r.Verdict.Read)
	if r.Discarded != "" {
		s += " DISCARDED: " + r.Discarded
	}
	if r.Error != "" {
		s += " FAILED: " + r.Error
	}
	return s
}

// results appends to a results file.
type results struct {
	info   runInfo
	f      *os.File
	rounds []round
}

func openResults(ctx context.Context, cfg *config) (*results, error) {
	info := runInfo{Kind: "run", Time: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(), Flags: os.Args[1:],
		Versions: make(map[string]string)}
	info.Run = info.Time.Format("20060102T150405Z")
	for _, s := range cfg.systems {
		v, err := s.version(ctx, cfg)
		if err != nil {
			return nil, err
		}
		info.Versions[s.name] = v
	}
	// A tree that was unpacked from an archive has no commit; the versions are there.
	if out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").Output(); err == nil {
		info.Commit = strings.TrimSpace(string(out))
	}
	f, err := os.OpenFile(cfg.out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	out := &results{info: info, f: f}
	if err := out.write(info); err != nil {
		f.Close()
		return nil, err
	}
	return out, nil
}

func (out *results) write(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = out.f.Write(append(line, '\n'))
	return err
}

func (out *results) add(r round) error {
	r.Run = out.info.Run
	out.rounds = append(out.rounds, r)
	return out.write(r)
}

func (out *results) close() error { return out.f.Close() }

func (out *results) table(w io.Writer) { printComparison(w, summarise(out.rounds)) }

// readResults reads results files. Of the rounds, those of each file's last run with the
// workload count.
func readResults(paths []string) (rounds []round, runs []runInfo, err error) {
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		n := 0
		for line := range bytes.Lines(text) {
			n++
			var kind struct{ Kind string }
			err := json.Unmarshal(line, &kind)
			switch {
			case err == nil && kind.Kind == "run":
				var info runInfo
				err = json.Unmarshal(line, &info)
				runs = append(runs, info)
			case err == nil && kind.Kind == "round":
				var r round
				err = json.Unmarshal(line, &r)
				rounds = append(rounds, r)
			case err == nil:
				err = errors.New("neither a run nor a round")
			}
			if err != nil {
				return nil, nil, fmt.Errorf("%s:%d: %w", path, n, err)
			}
		}
	}
	return lastRuns(rounds), runs, nil
}

// lastRuns drops the rounds of a workload that a later run made too: figures of one table come
// from one run, since a ratio over two runs compares two days.
func lastRuns(rounds []round) []round {
	last := make(map[string]string)
	for _, r := range rounds {
		last[r.Workload] = max(last[r.Workload], r.Run)
	}
	return slices.DeleteFunc(slices.Clone(rounds), func(r round) bool { return r.Run != last[r.Workload] })
}

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.MiB = int64(info.Totalram * uint64(info.Unit) >> 20)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	text, _ := os.ReadFile("/proc/cpuinfo") // without it the name is empty
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}
