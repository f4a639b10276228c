// Package health says what is wrong with a cluster, and what to do about it.
//
// Partitions and Nodes put together what the metadata and the nodes' pings say
// of each partition and node; Assess turns that and the asked node's own state
// into findings, worst first. All are pure functions: no clock, no network, no
// log, and the same answer for the same input. They see the cluster as the node
// does that was asked: a node which is cut off calls the others away.
//
// A finding's Kind is for programs and does not change; docs/operations/health.md
// lists all kinds, with their severity and what to do.
package health
