// Command bench measures raftsman beside others, in turn and under the same load.
//
//	bench run       workloads against raftsman, JetStream and kfake; appends to a results file
//	bench compare   medians and ratios of results files, and which limits they meet
//	bench hops      Go benchmarks of this commit and another one, alternately, by benchstat
//
// A round is: start one system with empty directories, warm it, load it, count, read back what
// it has acknowledged, stop it. Rounds of all systems alternate, so that what drifts drifts for
// all. A round beside which anything else used the machine is discarded and made again.
//
// Where things are: rounds.go is the run; work_*.go are the workloads, on load.go, which keeps
// messages outstanding; system.go with system_*.go starts and stops processes; client_*.go talk
// to them; ledger.go compares what was acknowledged with what is there; usage.go counts CPU;
// results.go, limits.go and compare.go are the figures; hops.go is the Go benchmarks.
// docs/performance.md has how to run it, and ADR 22 why it is so.
package main
