package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain is kfake too, since this program starts itself anew to be it.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == kfakeCommand {
		if err := serveKfake(os.Args[2]); err != nil {
			os.Stderr.WriteString(err.Error())
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func short(t *testing.T, system, workload string) *config {
	t.Helper()
	bin, err := filepath.Abs(filepath.Join("..", "..", "bin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"raftsman", "etcd", "nats-server"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			t.Fatalf("%v: run these tests with `make test-bench`", err)
		}
	}
	cfg, err := configured(t, "-bin", bin, "-systems", system, "-workloads", workload, "-round", "500ms", "-warm", "100ms",
		"-retain", "1073741824", // so that nothing of it is removed
		"-out", filepath.Join(t.TempDir(), "out.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestSystems makes a short round of each system. Its figures mean nothing here; that what was
// acknowledged could be read does.
func TestSystems(t *testing.T) {
	for i := range systems {
		s := &systems[i]
		t.Run(s.name, func(t *testing.T) {
			cfg := short(t, s.name, "pipelined:3")
			r := oneRound(t.Context(), cfg, cfg.chosen[0], s)
			if r.Error != "" {
				t.Fatal(r.Error)
			}
			if r.Verdict.Acked == 0 || r.Verdict.Read < r.Verdict.Acked || r.Figures["rate"] <= 0 || r.Usage.servers() <= 0 || r.Usage.Client <= 0 {
				t.Errorf("%+v", r)
			}
			if left, err := os.ReadDir(cfg.dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

// TestLossIsSeen: an acknowledgement of something that is not there fails a round.
func TestLossIsSeen(t *testing.T) {
	cfg := short(t, "kfake", "single")
	w := *cfg.chosen[0].workload
	w.run = func(ctx context.Context, e *env) (figures, error) {
		f, err := single(ctx, e)
		e.ledgers[0].ack(int64(e.ledgers[0].acked), identity(0, 1<<30)) // one past the end
		return f, err
	}
	r := oneRound(t.Context(), cfg, &choice{workload: &w, partitions: 1}, cfg.systems[0])
	if r.Verdict.Missing != 1 || !strings.Contains(r.Error, "1 can't be read") {
		t.Errorf("%+v", r)
	}
}

// TestDisturbedRoundsAreRepeated: with nothing allowed to others, whose use is never less than
// nothing, each try is discarded, and the run says so.
func TestDisturbedRoundsAreRepeated(t *testing.T) {
	cfg := short(t, "kfake", "single")
	cfg.others, cfg.tries, cfg.rounds = -1, 2, 1
	err := run(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "was disturbed 2 times") {
		t.Errorf("the run ended with %v", err)
	}
	rounds, runs, err := readResults([]string{cfg.out})
	if err != nil || len(runs) != 1 || len(rounds) != 2 || rounds[0].Discarded == "" || rounds[1].Try != 2 {
		t.Errorf("%+v %v", rounds, err)
	}
	if runs[0].Versions["kfake"] == "" || runs[0].Machine.Cores == 0 {
		t.Errorf("%+v", runs[0])
	}
}

// TestCrashedServerIsNamed: what a server said before it ended is in the error.
func TestCrashedServerIsNamed(t *testing.T) {
	ps := &processes{dir: t.TempDir()}
	defer ps.stop()
	if err := ps.spawn("node", "node-1", "sh", "-c", "echo no such luck; exit 3"); err != nil {
		t.Fatal(err)
	}
	<-ps.all[0].done
	err := ps.until(t.Context(), "luck", time.Hour, func(context.Context) error { return os.ErrNotExist })
	if err == nil || !strings.Contains(err.Error(), "node-1 ended: exit status 3; it said last:\nno such luck") {
		t.Error(err)
	}
}
