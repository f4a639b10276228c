// Package coordinator runs the consumer groups of one partition of
// __consumer_offsets on the node that leads it. What groups do is decided by
// internal/group, a pure state machine; here are its log, its clock and its one
// goroutine.
//
// # A term
//
// A [Coordinator] belongs to one term of a replica's leadership. Run waits until
// the replica may serve (the first entry of the term is applied, and with it all
// that earlier leaders have committed), feeds the machine all records from the
// log's start to the high watermark, and then serves until the term is over.
// Meanwhile requests are answered with COORDINATOR_LOAD_IN_PROGRESS, afterwards
// with NOT_COORDINATOR.
//
// # A commit's way
//
// Do queues a request. The goroutine takes all that is queued, hands each to the
// machine, gathers the records that come out into as few batches as possible, and
// appends them; what comes while they are on their way shares the next ones. So
// many commits share one fsync. When a batch is committed, the machine is told
// (Stored), in the order of the batches, and its replies go out.
//
// # Safety
//
// Batches are appended in the coordinator's term only (Partition.AppendIn): one
// that is late, because leadership was lost and regained, is void, so that an old
// state never writes over a newer one. A batch whose fate is unknown ends the
// machine: everything is answered with NOT_COORDINATOR, and if the replica still
// leads, a new machine is loaded.
//
// Reads (OffsetFetch, DescribeGroups and the like) are answered only once a
// majority has confirmed the term after the request came: a leader that was
// deposed and does not know it can't tell offsets of the past. One confirmation
// serves all reads that wait.
//
// # Sessions
//
// What the machine knew of its members' sessions when it ended is kept for the
// partition's next coordinator (Sessions), which the node tells of it (Inherit).
//
// # Costs
//
// A coordinator at rest is one parked goroutine and, if the machine wants to be
// woken (sessions, retention), one timer.
//
// # Lock order
//
// Coordinator.mu is a leaf: nothing is called under it.
package coordinator
