// Package replication runs many raft groups in one process: one write-ahead
// log with group commit, one log of snapshots and a few connections per pair
// of nodes serve them all. It is built on hashicorp/raft, which stays in
// charge of everything that decides.
//
// A [Host] is a node. A [Group] is one replica of one replicated state machine
// on it, known by its replica id: a number that is unique for ever. The
// replica id is the raft server id and the raft address, so that a vote or an
// append that was meant for a former holder of an address reaches nobody.
//
// # What a state machine is told
//
// [StateMachine] is raft's FSM with two additions. Snapshots are manifests:
// small, and naming files that the state machine keeps by itself. A state
// machine with such files implements [Stager] too; a follower that is too far
// behind then fetches the files first, at its own pace, and only then does raft
// install the manifest, which takes its main loop milliseconds.
//
// # Failure detection
//
// It is per node, not per group (failover.go, tend.go). Replicas whose leader's
// node is lost, or which know no leader, tell each other the end of their logs;
// once as many voters as an election needs are among them, the one with the
// longest log stands at once. A leader steps down when the nodes of a majority
// can't be reached. Raft's own timers run slower, as the net beneath.
//
// # Membership
//
// The leader of a group moves its membership towards the [Target] that it was
// given, one step at a time (membership.go): add as learner, wait until it has
// caught up (caughtup.go), promote, and only then remove.
//
// # Lock order
//
// Host.mu before Group.mu; neither is held while raft, the log or the network
// is called.
package replication
