// Package controller is what the winner of the election does: it turns what
// operators asked for into assignments.
//
// # Plan
//
// Plan is a pure function from a view to changes: no clock, no etcd, no log,
// and the same answer for the same view. It is a list of small planners, each
// a function from the view to changes, which don't look at each other's
// results: a partition is touched by one of them at most.
//
//   - remove: assignments of deleted topics. Only a tombstone counts as
//     deleted; an assignment whose topic is merely missing stays.
//   - place: partitions without an assignment, over the ready nodes. Racks are
//     spread first, then nodes, by the number of replicas; the preferred leader
//     is the member which is preferred least often, evened out over all new
//     partitions. With fewer ready nodes than replicas nothing is placed.
//   - reincarnate: replicas of nodes that came back empty. Such a node is
//     registered under another incarnation than its replicas; each replica is
//     replaced by a new one on the same node, as long as the others are a
//     majority of the partition. A replaced replica is a new raft server, and a
//     vote for the old one reaches nobody.
//
// What can't be done is a Blocked change with the reason.
//
// # Reconcile
//
// Run is one term: view, Plan, one round of fenced transactions, and again
// once the view contains what was written. It begins when the view shows this
// node as the winner, so that it contains whatever an earlier winner wrote.
//
// # Non-obvious
//
//   - Replica ids are never reused, even if the counter in etcd was set back by
//     hand: Plan starts above every id it sees.
//   - Each change names the revisions it was based on, and etcd compares them:
//     a view that lags costs a round (ErrConflict) but decides nothing.
//   - An unreadable assignment is not a missing one (View.Broken).
//   - A replica that was just placed counts as healthy for reincarnate although
//     it may be empty still. The assignment is only a wish: the group's raft
//     leader removes a member only with a majority of the old configuration.
package controller
