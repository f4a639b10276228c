package main

import (
	"flag"
	"io"
	"strings"
	"testing"
)

func configured(t *testing.T, args ...string) (*config, error) {
	t.Helper()
	var cfg config
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	cfg.bind(f)
	if err := f.Parse(append([]string{"-fill-cache=false", "-retain", "67108864", "-read-bytes", "1048576", "-dir", t.TempDir()}, args...)); err != nil {
		t.Fatal(err)
	}
	remove, err := cfg.check()
	t.Cleanup(remove)
	return &cfg, err
}

func TestFlagsAreChecked(t *testing.T) {
	cfg, err := configured(t, "-workloads", "pipelined:7,tail", "-systems", "kfake,raftsman")
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.chosen[0].String() + " " + cfg.chosen[1].String() + " " + cfg.systems[0].name; got != "pipelined:7 tail:1000 kfake" {
		t.Errorf("chose %s", got)
	}
	for _, c := range [][]string{
		{"-systems", "kafka"}, {"-systems", ""}, {"-workloads", "piped"}, {"-workloads", "single:0"}, {"-workloads", "single:many"},
		{"-rounds", "0"}, {"-size", "15"}, {"-size", "2000000"}, {"-round", "0s"}, {"-retain", "1000"}, {"-read-bytes", "67108864"},
		{"-dir", "/dev/shm/raftsman-bench-test"}, {"-retain", "9000000000000000"},
	} {
		if _, err := configured(t, c...); err == nil {
			t.Errorf("%v: no error", c)
		} else if !strings.Contains(err.Error(), c[0]) {
			t.Errorf("%v: %v does not name the flag", c, err)
		}
	}
}

func TestDealing(t *testing.T) {
	for _, c := range []struct{ window, lanes int }{{1024, 1}, {1024, 16}, {1024, 100}, {1024, 1000}, {1, 1}, {10, 100}} {
		sum := 0
		for i := range c.lanes {
			share := windowOf(i, c.window, c.lanes)
			if share < 1 {
				t.Errorf("lane %d of %d has a window of %d", i, c.lanes, share)
			}
			sum += share
		}
		if sum != max(c.window, c.lanes) {
			t.Errorf("%d messages over %d lanes are %d", c.window, c.lanes, sum)
		}
	}
	for _, c := range []struct{ lanes, clients, want int }{{1, 16, 1}, {16, 16, 16}, {100, 16, 16}, {3, 2, 2}} {
		dealt, seen := deal(c.lanes, c.clients), make(map[int]bool)
		for _, lanes := range dealt {
			for _, i := range lanes {
				seen[i] = true
			}
		}
		if len(dealt) != c.want || len(seen) != c.lanes {
			t.Errorf("%d lanes to %d clients: %v", c.lanes, c.clients, dealt)
		}
	}
}
