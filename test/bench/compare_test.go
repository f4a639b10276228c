package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func counting(workload, system string, values ...float64) (rounds []round) {
	for _, v := range values {
		rounds = append(rounds, round{Kind: "round", Run: "1", Workload: workload, System: system, Figures: figures{"rate": v, "gap_max_ms": v}})
	}
	return rounds
}

func TestSummariesLeaveOutWhatDoesNotCount(t *testing.T) {
	rounds := counting("pipelined:1", "raftsman", 100, 300, 200)
	rounds = append(rounds, counting("pipelined:1", "raftsman", 1e9)...)
	rounds[3].Discarded = "others were busy"
	rounds = append(rounds, counting("pipelined:1", "raftsman", 1e9)...)
	rounds[4].Error = "messages are missing"
	s := summarise(rounds)["pipelined:1"]["raftsman"]
	if s.rounds != 3 || s.discarded != 1 || s.failed != 1 || s.median["rate"] != 200 || s.worst["rate"] != 300 {
		t.Errorf("%+v", s)
	}
}

func TestLimits(t *testing.T) {
	all := func(parts ...[]round) summaries {
		var rounds []round
		for _, p := range parts {
			rounds = append(rounds, p...)
		}
		return summarise(rounds)
	}
	ratio := limit{workload: "pipelined:1", figure: "rate", than: jetStream, bound: 3}
	own := limit{workload: "pipelined:100", figure: "rate", than: "pipelined:16", bound: 0.8}
	worst := limit{workload: "failover:1", figure: "gap_max_ms", most: true, bound: 1000, worst: true}
	for _, c := range []struct {
		name    string
		limit   limit
		all     summaries
		reached float64
		met     bool
	}{
		{"a ratio that is met", ratio, all(counting("pipelined:1", "raftsman", 300), counting("pipelined:1", jetStream, 100)), 3, true},
		{"a ratio that is missed", ratio, all(counting("pipelined:1", "raftsman", 299), counting("pipelined:1", jetStream, 100)), 2.99, false},
		{"no peer", ratio, all(counting("pipelined:1", "raftsman", 300)), math.NaN(), false},
		{"no raftsman", ratio, all(counting("pipelined:1", jetStream, 300)), math.NaN(), false},
		{"a peer that did nothing", ratio, all(counting("pipelined:1", "raftsman", 300), counting("pipelined:1", jetStream, 0)), math.NaN(), false},
		{"an own workload", own, all(counting("pipelined:100", "raftsman", 79), counting("pipelined:16", "raftsman", 100)), 0.79, false},
		{"the worst, not the median", worst, all(counting("failover:1", "raftsman", 100, 100, 1500)), 1500, false},
	} {
		reached, met := c.limit.judge(c.all)
		if met != c.met || math.Abs(reached-c.reached) > 1e-9 || math.IsNaN(reached) != math.IsNaN(c.reached) {
			t.Errorf("%s: %v %v, want %v %v", c.name, reached, met, c.reached, c.met)
		}
	}
}

// A limit with a misspelt name would never be measured.
func TestLimitsNameWhatThereIs(t *testing.T) {
	figure := strings.Join(figureOrder, " ")
	for _, l := range limits {
		name, partitions, _ := strings.Cut(l.workload, ":")
		if placeOf(name) < 0 || partitions == "" {
			t.Errorf("%v: no such workload", l)
		}
		if !strings.Contains(figure, l.figure) {
			t.Errorf("%v: no such figure", l)
		}
		if l.than != "" && placeOf(l.than) < 0 && !strings.Contains(allSystems(), l.than) {
			t.Errorf("%v: compared with nothing that there is", l)
		}
	}
}

func TestComparisonIsPrinted(t *testing.T) {
	var b strings.Builder
	printComparison(&b, summarise(append(counting("pipelined:1", "raftsman", 400), counting("pipelined:1", jetStream, 100)...)))
	for _, want := range []string{"raftsman / jetstream", "pipelined:1 rate ≥ 3 × jetstream ", "4  met (rounds: 1, too few to count)", "–  not measured"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

func TestResultsAreReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.jsonl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	out := &results{info: runInfo{Kind: "run", Run: "2"}, f: f}
	old := counting("single:1", "raftsman", 1)
	both := append(counting("single:1", "raftsman", 2), counting("single:1", "kfake", 3)...)
	for _, err := range []error{out.write(out.info), out.write(old[0]), out.add(both[0]), out.add(both[1]), out.close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	rounds, runs, err := readResults([]string{path})
	if err != nil || len(runs) != 1 || len(rounds) != 2 || rounds[0].Figures["rate"] != 2 || rounds[1].System != "kfake" {
		t.Errorf("%v %v %v", rounds, runs, err)
	}
	for _, bad := range []string{"{", `{"kind":"lap"}`, "\x00", `{"kind":"round","figures":3}`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readResults([]string{path}); err == nil || !strings.Contains(err.Error(), path+":1") {
			t.Errorf("%q: %v, which does not name the line", bad, err)
		}
	}
}

func TestDisturbed(t *testing.T) {
	for _, c := range []struct {
		u    usage
		want bool
	}{
		{usage{Seconds: 60, Others: 5.9}, false},
		{usage{Seconds: 60, Others: 6.1}, true},
		{usage{Seconds: 60, Others: 3, Stolen: 3.1}, true},
		{usage{Seconds: 60, Client: 60, Kernel: 60, Roles: map[string]float64{"node": 60}}, false},
		{usage{}, false},
	} {
		if got := disturbed(c.u, 0.1); (got != "") != c.want {
			t.Errorf("%+v: %q", c.u, got)
		}
	}
}

func TestTrends(t *testing.T) {
	var seen []watched
	for i := range 60 {
		seen = append(seen, watched{P99: 10, MiB: 100, Rate: 1000, Goroutines: float64(500 + i*100)})
	}
	seen[3].P99 = 9999 // one slow moment is no trend
	f := trends(seen)
	if f["p99_ms.growth"] != 1 || f["mib.growth"] != 1 || f["goroutines.first"] != 950 || f["goroutines.last"] != 5950 {
		t.Errorf("%v", f)
	}
	if f := trends(seen[:1]); f["rate.growth"] != 1 {
		t.Errorf("of one: %v", f)
	}
}
