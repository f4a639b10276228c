package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// figureOrder is in which order figures are shown.
var figureOrder = []string{"rate", "sent", "p50_ms", "p99_ms", "gap_ms", "gap_max_ms", "node_cores", "node_mib", "restart_s", "servers_us", "client_us",
	"server_cores", "client_cores", "p99_ms.growth", "mib.growth", "goroutines.growth", "failed", "resent"}

// ratioOf are the figures whose ratio to raftsman's is shown.
var ratioOf = []string{"rate", "p50_ms", "p99_ms", "gap_ms", "node_cores", "restart_s", "servers_us"}

// A summary is of the rounds that count, of one workload and system.
type summary struct {
	rounds, discarded, failed int
	median, worst             figures // worst is the largest: used for gaps
}

// summaries are by workload, then by system.
type summaries map[string]map[string]*summary

func summarise(rounds []round) summaries {
	values := make(map[*summary]map[string][]float64)
	all := make(summaries)
	for _, r := range rounds {
		of := all[r.Workload]
		if of == nil {
			of = make(map[string]*summary)
			all[r.Workload] = of
		}
		s := of[r.System]
		if s == nil {
			s = &summary{median: make(figures), worst: make(figures)}
			of[r.System], values[s] = s, make(map[string][]float64)
		}
		switch {
		case r.Error != "":
			s.failed++
		case r.Discarded != "":
			s.discarded++
		default:
			s.rounds++
			for name, v := range r.Figures {
				values[s][name] = append(values[s][name], v)
			}
		}
	}
	for s, byName := range values {
		for name, vs := range byName {
			s.median[name], s.worst[name] = median(vs), slices.Max(vs)
		}
	}
	return all
}

func (all summaries) figure(workload, system, name string, worst bool) (float64, bool) {
	s := all[workload][system]
	if s == nil {
		return 0, false
	}
	v, ok := s.median[name]
	if worst {
		v, ok = s.worst[name]
	}
	return v, ok
}

// enough rounds make a median that a limit is judged by.
const enough = 5

// rounds is how many there are of what a limit is about, and of what it compares with.
func (all summaries) rounds(l limit) int {
	s := all[l.workload]["raftsman"]
	if s == nil {
		return 0
	}
	if than := cmp.Or(all[l.workload][l.than], all[l.than]["raftsman"]); than != nil {
		return min(s.rounds, than.rounds)
	}
	return s.rounds
}

// number writes a figure with three digits that count.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case math.Abs(v) >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}

// printComparison writes a table for each workload, and what became of the limits.
func printComparison(w io.Writer, all summaries) {
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(placeOf(a), placeOf(b)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	for _, name := range names {
		printWorkload(w, name, all[name])
	}
	fmt.Fprintln(w, "\nlimits")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	for _, l := range limits {
		reached, met := l.judge(all)
		word := "MISSED"
		if math.IsNaN(reached) {
			word = "not measured"
		} else if met {
			word = "met"
		}
		if n := all.rounds(l); n > 0 && n < enough && !strings.HasPrefix(l.workload, "soak:") {
			word += fmt.Sprintf(" (rounds: %d, too few to count)", n)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", l, number(reached), word)
	}
}

// placeOf is where a workload stands among all.
func placeOf(name string) int {
	name, _, _ = strings.Cut(name, ":")
	return slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
}

func printWorkload(w io.Writer, name string, of map[string]*summary) {
	fmt.Fprintf(w, "\n%s\n", name)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer t.Flush()
	var shown []string
	for _, fig := range figureOrder {
		for _, s := range of {
			if _, ok := s.median[fig]; ok {
				shown = append(shown, fig)
				break
			}
		}
	}
	fmt.Fprintf(t, "\trounds\tdiscarded\tfailed\t%s\t\n", strings.Join(shown, "\t"))
	for _, system := range systems {
		s := of[system.name]
		if s == nil {
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t", system.name, s.rounds, s.discarded, s.failed)
		for _, fig := range shown {
			v, ok := s.median[fig]
			if !ok {
				v = math.NaN()
			}
			fmt.Fprintf(t, "%s\t", number(v))
		}
		fmt.Fprintln(t)
	}
	own := of["raftsman"]
	for _, system := range systems {
		s := of[system.name]
		if own == nil || s == nil || s == own {
			continue
		}
		fmt.Fprintf(t, "raftsman / %s\t\t\t\t", system.name)
		for _, fig := range shown {
			ratio := ""
			if a, b := own.median[fig], s.median[fig]; slices.Contains(ratioOf, fig) && a > 0 && b > 0 {
				ratio = number(a / b)
			}
			fmt.Fprintf(t, "%s\t", ratio)
		}
		fmt.Fprintln(t)
	}
}

// compare prints results files.
func compare(args []string) error {
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	discarded := f.Bool("discarded", false, "count discarded rounds too: only to look at a run that was disturbed")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		return fmt.Errorf("compare: name results files")
	}
	rounds, runs, err := readResults(f.Args())
	if err != nil {
		return err
	}
	if *discarded {
		for i := range rounds {
			rounds[i].Discarded = ""
		}
	}
	for _, r := range runs {
		fmt.Printf("run %s: commit %s on %d × %s, %d MiB, Linux %s, %s; %v\n",
			r.Run, r.Commit, r.Machine.Cores, r.Machine.CPU, r.Machine.MiB, r.Machine.Kernel, r.Machine.Go, r.Versions)
	}
	printComparison(os.Stdout, summarise(rounds))
	return nil
}
