package main

import (
	"fmt"
	"math"
)

// A limit is something that raftsman has to reach.
type limit struct {
	workload string
	figure   string
	than     string  // a system, or an own workload; "" for a figure by itself
	most     bool    // at most; else at least
	bound    float64 // of the ratio to the other, or of the figure itself
	worst    bool    // of the worst round, instead of the median
}

const (
	jetStream = "jetstream"
	always    = "jetstream-always"
	inMemory  = "kfake"
)

// limits is what raftsman has to show, on the built binary with real fsync, in one run with the
// others.
var limits = []limit{
	{workload: "pipelined:1", figure: "rate", than: jetStream, bound: 3},
	{workload: "pipelined:1", figure: "rate", than: always, bound: 5},
	{workload: "pipelined:1", figure: "servers_us", than: jetStream, most: true, bound: 0.35},
	{workload: "pipelined:16", figure: "rate", than: jetStream, bound: 3.5},
	{workload: "pipelined:16", figure: "rate", than: always, bound: 6},
	{workload: "pipelined:16", figure: "servers_us", than: jetStream, most: true, bound: 0.35},
	{workload: "pipelined:100", figure: "rate", than: "pipelined:16", bound: 0.8},
	{workload: "pipelined:1000", figure: "rate", than: "pipelined:16", bound: 0.8},

	{workload: "single:1", figure: "p50_ms", than: always, most: true, bound: 0.55},
	{workload: "single:1", figure: "p99_ms", than: always, most: true, bound: 1},

	{workload: "read-warm:1", figure: "rate", than: jetStream, bound: 2.5},
	{workload: "read-warm:1", figure: "rate", than: inMemory, bound: 1},
	{workload: "read-cold:1", figure: "rate", than: jetStream, bound: 1.5},
	{workload: "tail:1000", figure: "p99_ms", most: true, bound: 10},

	{workload: "connections:1", figure: "rate", than: jetStream, bound: 1},

	{workload: "failover:1", figure: "gap_ms", most: true, bound: 250},
	{workload: "failover:1", figure: "gap_max_ms", most: true, bound: 1000, worst: true},
	{workload: "failover:1000", figure: "gap_max_ms", most: true, bound: 500, worst: true},
	{workload: "failover:10000", figure: "gap_max_ms", most: true, bound: 3000, worst: true},

	{workload: "idle:1000", figure: "node_cores", most: true, bound: 0.03},
	{workload: "idle:10000", figure: "restart_s", most: true, bound: 30},

	{workload: "soak:16", figure: "p99_ms.growth", most: true, bound: 1.2},
	{workload: "soak:16", figure: "mib.growth", most: true, bound: 1.1},
	{workload: "soak:16", figure: "goroutines.growth", most: true, bound: 1.1},
}

// String is what the limit asks for.
func (l limit) String() string {
	sign, of := "≥", ""
	if l.most {
		sign = "≤"
	}
	if l.than != "" {
		of = " × " + l.than
	}
	s := fmt.Sprintf("%s %s %s %s%s", l.workload, l.figure, sign, number(l.bound), of)
	if l.worst {
		s += ", the worst round"
	}
	return s
}

// judge returns what was reached, as a ratio if the limit is one, and whether that meets it. It
// is NaN if it was not measured.
func (l limit) judge(all summaries) (reached float64, met bool) {
	own, ok := all.figure(l.workload, "raftsman", l.figure, l.worst)
	if !ok {
		return math.NaN(), false
	}
	reached = own
	if l.than != "" {
		than, ok := all.figure(l.workload, l.than, l.figure, l.worst)
		if _, own := all[l.than]; own {
			than, ok = all.figure(l.than, "raftsman", l.figure, l.worst)
		}
		if !ok || than == 0 {
			return math.NaN(), false
		}
		reached = own / than
	}
	if l.most {
		return reached, reached <= l.bound
	}
	return reached, reached >= l.bound
}
