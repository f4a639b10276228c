// Package group is the coordinator of classic consumer groups as a pure state
// machine: events and the time go in, responses and records come out. It reads
// no clock, does no I/O, starts no goroutine and logs nothing.
//
// One Machine holds every group whose coordinator is one partition of
// __consumer_offsets (Coordinates says which), from the time its node leads that
// partition until it does not: Load for each record of the log, Loaded, then
// Handle, Stored and Tick as things happen, and Resign.
//
// # States
//
//	          first member joins                 all joined, or time is up
//	Empty ───────────────────────► PreparingRebalance ──────────────► CompletingRebalance
//	  ▲  ▲                            │        ▲  ▲                       │         │
//	  │  └────────────────────────────┘        │  └───────────────────────┘         │ the leader's
//	  │          nobody is left                │   somebody joins, leaves or fails  │ assignment
//	  │ it fails                               │                                    ▼ is stored
//	  │                                        └──────────────────────────────── Stable
//	Dead ◄── Empty: deleted, or without offsets
//
// A JoinGroup waits while the group is preparing (join.go, rebalance.go), a
// SyncGroup while it is completing (sync.go). Between the two the generation
// goes up, the protocol is chosen and the leader is told of all members. Static
// members (KIP-345) that come back without their id take their own place
// (static.go). Offsets are in commit.go, fetch.go, delete.go and expire.go.
//
// # Records
//
// Kafka's own (record.go, load.go), so that its tools read the topic:
//
//	key   about                     value
//	0, 1  group, topic, partition   a committed offset; read 0-4, written 3, or 1
//	                                with a time of expiry, or 4 with a topic id
//	2     group                     its generation with members, subscriptions and
//	                                assignments; read 0-4, written 3
//	3-    other kinds of groups     skipped
//
// A generation is written when its assignment is complete, before anybody gets
// it; when a static member has a new id, before it is told; and when the last
// member has gone. Of a deleted group, its offsets' tombstones come first and its
// own last. A group that only stores offsets has no record of its own.
//
// Nothing is written about a rebalance under way. After a recovery the last
// stored generation is stable again, with fresh sessions: members in it go on,
// and those who were in a later one are told UNKNOWN_MEMBER_ID or
// ILLEGAL_GENERATION and join anew. The next generation may therefore have a
// number that was in use before, but nobody had an assignment in that.
//
// # Writes
//
// Groups change at once; only what others must not see before it is durable
// waits for Stored: the assignment, a static member's new id, committed offsets,
// the end of a deleted group. Outcomes take effect in the order of the log,
// whatever order they are told in. If meanwhile a rebalance has begun, the
// outcome of an older generation's write changes nothing. A refused assignment is
// an error that members retry, and a new rebalance.
//
// # Time
//
// Every deadline is a timer in one heap (timer.go). A heartbeat puts its
// member's off without touching the heap: it costs the same in a group of any
// size. A member that waits for an answer is not expected to send anything: its
// session begins anew with the answer. New members are the exception, for their
// client may be gone without a trace: they may wait for five minutes.
//
// A recovered machine gives every member a fresh session, for the log does not say
// when it was last heard. Where the machine before it can still tell (Sessions,
// Inherit), sessions go on instead: a member that died just before a coordinator
// moved is not waited for twice.
//
// # Non-obvious
//
//   - Every Handle is answered exactly once, also where Kafka forgets a request:
//     one that was sent again, or whose member was removed.
//   - An OffsetFetch waits for the commits before it. Without that, the member
//     that takes a partition over could miss the last commit of the one that had
//     it, and put the offset back with its own.
//   - A commit on its way counts as an offset where offsets are deleted: its
//     tombstone must come behind it in the log, or it would return after a
//     recovery. It does not count where they are read.
//   - While a group is deleted it is dead and takes nothing in, but its offsets
//     can be read until the tombstones are stored: -1 would let a consumer begin
//     elsewhere, and the deletion may fail.
//   - While the leader's assignment is being stored, the leader's further
//     SyncGroups wait for that one: two assignments of a generation in the log
//     could differ from what members have.
//   - A static leader that comes back must not assign, for the others would not
//     notice: from JoinGroup 9 on it is told so (KIP-814), before it is told its
//     own old id as the leader's.
//   - The offsets of an empty group expire when both its last member and the last
//     commit are long past. Kafka counts from the last member alone, which takes
//     the offsets of a group that has gone over to assigning partitions by hand.
//   - A subscription that can't be read may be to every topic: no offset of the
//     group expires, nor can be deleted one by one, while it has members.
//   - Whatever goes through all groups or members does so in a fixed order: the
//     same events lead to the same effects, byte for byte.
//   - Names are bounded to what 16 bits of length can hold (the older versions
//     and the records); flexible requests could carry longer ones.
//
// # Room
//
// A KIP-848 group would be another type beside group in Machine.groups, loaded
// from the kinds that load skips. Offsets of open transactions would be a second
// place beside offset.committed, by producer id, that a marker moves over; they
// would make OffsetFetch answer UNSTABLE_OFFSET_COMMIT where it is asked for
// stable offsets.
package group
