package dashboard

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestManyPartitionsAreCutTruly(t *testing.T) {
	w := newWorld(maxRows + 500)
	w.leader[maxRows+400] = 9 // nobody
	m := build(w.look(), "", nil, nil)
	var o Overview
	if err := json.Unmarshal(m["cluster"], &o); err != nil {
		t.Fatal(err)
	}
	if o.Partitions != maxRows+500 || o.Shown != maxRows || o.Leaderless != 1 {
		t.Errorf("got %d partitions, %d shown, %d without a leader", o.Partitions, o.Shown, o.Leaderless)
	}
	if m[fmt.Sprintf("p/t/%d", maxRows+400)] == nil {
		t.Error("the one without a leader is not shown")
	}
}

func TestMergeWins(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	got := mergeWins(
		[]Win{{1, 10, at(100), true}, {2, 20, at(200), false}},
		[]Win{{1, 10, at(50), false}, {2, 20, at(201), false}, {3, 30, at(300), false}},
		[]Win{{3, 30, at(290), true}},
	)
	want := []Win{{3, 30, at(300), false}, {2, 20, at(200), false}, {1, 10, at(50), false}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
	var many []Win
	for i := range int64(100) {
		many = append(many, Win{1, i + 1, at(i), false})
	}
	if got := mergeWins(many); len(got) != maxWins || got[0].Revision != 100 {
		t.Errorf("of many: %d, the first is %v", len(got), got[0])
	}
}

func TestNewWants(t *testing.T) {
	if _, err := New(Options{Gatherer: prometheus.NewRegistry()}); err == nil || !strings.Contains(err.Error(), "Look") {
		t.Errorf("got %v", err)
	}
}
