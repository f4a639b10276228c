// Package controller is what the winner of the election does: it turns what
// operators asked for, and what has become of the nodes, into assignments.
//
// # Plan
//
// Plan is a pure function from a view and a few facts (the time, who is away
// since when) to changes: no clock, no etcd, no log, and the same answer for
// the same arguments. It makes a world of the view, and small planners work on
// it in order. A partition is touched by one of them at most.
//
//   - remove: assignments of deleted topics. Only a tombstone counts as
//     deleted; an assignment whose topic is merely missing stays.
//   - reincarnate: replicas of nodes that came back empty. Such a node is
//     registered under another incarnation than its replicas; each replica is
//     replaced by a new one on the same node, as long as the others are a
//     majority of the partition. A replaced replica is a new raft server, and a
//     vote for the old one reaches nobody. So are replicas that a node has freed,
//     by its status: with a leader their group has a majority without them.
//   - operate: operations (ops/). Drains and decommissions become wishes
//     (config/nodes/), which outlive them; moves and transfers become
//     assignments. What would leave a partition without a leader or a majority
//     is refused with the reason.
//   - place: partitions without an assignment, over the nodes that take
//     replicas: ready, and without a wish. Racks are spread first, then nodes, by
//     the number of replicas, then by bytes; the preferred leader is the member
//     which is preferred least often, evened out over all new partitions. With
//     fewer nodes than replicas nothing is placed. Where the topic's creator has
//     chosen nodes, those are taken, once all of them are registered.
//   - evacuate: replicas of nodes that are away for longer than RebuildDelay, and
//     of decommissioned nodes. When most nodes are away at once, none.
//   - enlarge: topics of the system (Facts.Replicas) that were made when there were
//     fewer nodes get the replicas that they shall have, once there are as many
//     nodes that take some; a partition all of its missing ones at once. None is
//     ever taken away.
//   - balance: racks, replicas, bytes. A difference of one replica stays.
//   - balanceLeaders: who is preferred, by the order of replicas.
//
// What can't be done is a Blocked change with the reason, each reason once.
//
// # Settled
//
// A partition is settled when the node that leads it says so in its status: it
// has seen the assignment, and the group's members are those. Only settled
// partitions are changed again, but for two cases: a move that is cancelled, and
// a replica that is lost while it is still on its way. Assignment.Former holds
// the members from before a change. Until it is settled they are the voters.
//
// Options.Moves bounds the replicas that are on their way in the whole cluster:
// those of unsettled assignments that Former does not have. Operators' moves go
// first, then repairs, evacuations, and the balancer with what is left. A move
// that asks for more than Moves replicas at once waits until nothing else moves.
//
// # Safety of a change
//
// unsafe is asked before any replica is given to another node. The group's
// leader adds and promotes the new replicas before it removes old ones, so a
// majority has to be live and in sync of the members that are, and of those that
// shall be together with the dead ones that wait to be removed.
//
// # Reconcile
//
// Run is one term: view, Plan, one round of fenced transactions, and again
// once the view contains what was written. It begins when the view shows this
// node as the winner, so that it contains whatever an earlier winner wrote. A
// term remembers since when nodes are away; a new one begins to count anew.
//
// # Non-obvious
//
//   - Replica ids are never reused, even if the counter in etcd was set back by
//     hand: Plan starts above every id it sees.
//   - Each change names the revisions it was based on, and etcd compares them:
//     a view that lags costs a round (ErrConflict) but decides nothing.
//   - An unreadable assignment is not a missing one (View.Broken), nor is an
//     unreadable operation.
//   - A replica that was just placed counts as healthy for reincarnate although
//     it may be empty still. The assignment is only a wish: the group's raft
//     leader removes a member only with a majority of the old configuration.
//   - A wish is written before the operation that made it. A running operation
//     whose wish is gone was ended by hand.
//   - A partition that an operator moved or transferred is left alone by the
//     balancer as long as the operation's key exists (OpLife after its end); one
//     whose nodes the topic's creator has chosen, as long as it is on them.
//   - Former means nothing once a partition is settled, and nobody cleans it up:
//     that would be a write for each partition.
//   - A cancelled move goes back to the former replica ids only while a new
//     replica is lagging: until all new ones are voters no old one is removed.
//     By a status that is old already it may go back too late. Then a node has
//     freed the former replica, opens it no more, and reincarnate replaces it.
package controller
