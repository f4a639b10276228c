// Package partition is one replica of one partition: it takes batches in,
// replicates them, keeps the state that they build, and serves reads.
//
// # A batch's way
//
// Append checks a batch (check.go) and queues it. While this replica leads, the
// proposer (propose.go) gathers what is queued into one raft entry of up to
// about 1 MiB, with a few entries in flight. When raft has committed an entry,
// ApplyBatch (apply.go) drops duplicates of idempotent producers
// (producers.go), assigns base offsets, hands the batches to the segments
// (internal/seglog) and advances the high watermark. The proposer's completer
// then answers each producer. Read (read.go) serves what lies below the high
// watermark.
//
// # Entries
//
// The batches of an entry are the entry's data, back to back, as they came in;
// what we add is in raft's Extensions, so that a single batch is never copied:
//
//	u8 version (1) | u8 kind | i64 time in ms, from the leader's clock | by kind:
//	kind 1 batches        –                    data: record batches
//	kind 2 epoch start    i64 segment bytes    the first entry of a leader's term
//	kind 3 log start      i64 offset           retention, DeleteRecords
//	kind 4 reached        i64 epoch, i64 generation of the assignment
//	kind 5 expire         i64 time in ms       forget producers idle since then
//	kind 6 segment bytes  i64                  a changed topic configuration
//	kind 7 term batches   i64 term             data: record batches, void in another term
//	kind 8 roll           i64 base offset      seal the active segment, if it begins there
//	kind 9 compact        i64 offset up to which, i64 ms that new tombstones stay
//	kind 10 refill begin  i64 token, i64 offset   an empty partition begins there
//	kind 11 refill        i64 token               data: record batches with their offsets
//	kind 12 refill end    i64 log start, i64 next offset
//
// Integers are big endian.
//
// # Determinism
//
// All replicas apply the same entries and reach the same state, byte for byte,
// segments included. So apply reads no clock and no configuration: time, the
// log start and the size of segments come in entries, from the leader.
//
// # Compaction
//
// The leader decides when a log is compacted, and up to where (compactplan.go);
// the entry that says so only notes it. Each replica carries out what was noted,
// in order, in the background (compact.go), on segments that are sealed and so
// the same everywhere: replicas end with the same files, at different times. What
// was noted and not carried out yet is in the manifest. By the entry's time
// tombstones come and go.
//
// # Refill
//
// An empty partition is filled from a backup (refill.go): it begins at the first
// offset of the backup, takes batches at the offsets that they carry, gaps included,
// and nothing else, and at the end gets its log start and next offset. Meanwhile it
// is read as any other. The token says which backup it is, so that whoever was
// interrupted goes on, and nobody fills in something else. Leader epochs are those
// of the group that it is filled into. Of producers nothing is remembered.
//
// # Manifests
//
// A raft snapshot of a partition is a manifest (manifest.go): segments with
// lengths and checksums, log start, epochs, the last five batches of each
// producer, the assignment reached. It is written once the segments it names
// are fsynced. A start cuts the segments to the manifest, and raft replays the
// rest. A follower that is too far behind stages segments first (stage.go).
//
// # Non-obvious
//
//   - A new leader answers nothing before the epoch start of its term was
//     applied: its high watermark may be behind what clients have seen.
//   - A producer that is unknown and was never expired must begin at sequence 0.
//     Accepting any sequence would let the second of two batches in flight
//     in, when the first was lost with its leader.
//   - The segments are opened by the first Restore or, if raft has no snapshot,
//     by the first entry. Opening them empty beside a manifest would delete them.
//   - A failed append to the segments leaves the replica broken: it applies
//     nothing more and takes no snapshot. The log still holds everything.
//
// # Lock order
//
// applyMu before mu before queueMu; none is held while raft is called.
package partition
