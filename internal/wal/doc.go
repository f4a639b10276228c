// Package wal is the node's one write-ahead log: the raft.LogStore and
// raft.StableStore of every group, with one write and one fdatasync for what
// all of them have queued.
//
// DESIGN.md has the disk format, the argument why a crash loses nothing that
// was acknowledged, and what is not obvious. A tour of the files:
//
//	format.go   the bytes of headers, batches and frames
//	scan.go     checking them: what is whole, what is torn, what is damaged
//	recover.go  from files to the state of every group
//	log.go      Open, Close, Drop, Stats
//	group.go    a group's entries (raft.LogStore)
//	stable.go   a group's values and vote (raft.StableStore)
//	commit.go   the committer: queue, batch, write, sync, complete
//	prepare.go  the preparer: the next file, the reserve, recycling
//	forward.go  copying live frames out of the oldest file
//	tail.go     recent entries in memory
//	inspect.go  reading a log offline
package wal
