// Package check judges a torture history.
//
// # The model
//
// A partition is an append-only log with one value per offset. Records are unique:
// each names the client that wrote it and that client's number. All that is told of
// an offset, by an acknowledgement or by a read from whichever replica, must be the
// same record, for ever. What follows is checked directly, offset by offset, so that
// the time is that of reading the history, and the memory some
// 100 bytes a record, whatever was read how often:
//
//   - An acknowledged append is where it was acknowledged: nobody is ever told of
//     another record at that offset, nor of that record at another offset. The final
//     reads, from the log start to the end, must show it.
//   - An append happens at most once, an unknown one too: appends are sent once, or by
//     idempotent producers. One that was refused for sure is never there.
//   - Real time: an append gets a higher offset than everything that anybody knew to
//     be committed when it began, by an acknowledgement, a read or a high watermark.
//     A read from a leader shows a high watermark above all of that which was written
//     in its term or before. (A former leader that does not know of its successor yet
//     may answer without what came after; the report counts that.)
//   - An idempotent producer's acknowledged records lie in the order of their numbers.
//   - Reads have no gaps, and begin where they were asked to, unless a deletion that
//     had begun by then explains it. Log start does not go back, and not beyond what
//     somebody asked for.
//   - Leader epochs do not fall along a log; an epoch has one leader.
//   - A committed offset of a group does not go back, except by a reset, nor beyond
//     what somebody committed; a commit of which nobody knows the end may come true at
//     any time. A member of a group begins no later than at the highest offset that
//     was committed.
//   - In the end replicas are equal, and the cluster works again.
//
// The offsets of a partition are no more than the appends that were begun, so that a
// history can't make the checker allocate more than its own size.
package check
