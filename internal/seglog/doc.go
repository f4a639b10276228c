// Package seglog stores the committed record batches of one partition replica
// in segment files, serves reads of them from memory at the head and from
// files behind it, and answers lookups by time.
//
// Segments are a derived store. The node's write-ahead log holds every entry
// until a durable manifest names the segment bytes that came from it, so
// Append writes nothing and waits for no disk; SyncTo is the only call that
// makes anything durable.
//
// # Files
//
// A log's directory holds, for each segment,
//
//	<base offset, 20 digits>.log     Kafka record batches (magic 2), back to back
//	<base offset, 20 digits>.index   sealed segments only; derived
//
// and, for those that compaction has made, <base offset>-<generation, 10 digits> with
// the same endings.
//
// A batch is stored as it was produced, except base offset (bytes 0 to 7) and
// leader epoch (bytes 12 to 15), which lie outside the batch's own CRC. The
// last segment is the active one; the others are sealed and never change, but
// compaction may put others in their place.
// A segment is begun when the next batch would make the active one longer than
// SegmentBytes, or its offsets span more than 31 bits. Only bytes decide, never
// a clock: replicas that append the same batches from the same State have
// byte-identical files.
//
// An index, integers little endian:
//
//	header   magic "RSIX" | u32 version | i64 base | i64 segment bytes |
//	         u32 segment crc32c | u32 interval | u32 entries | u32 crc32c of the
//	         header before this field and of all entries
//	entry    u32 offset - base | u32 file position | i64 greatest timestamp of
//	         all batches before this position
//
// The first batch has an entry, and then every batch that begins IndexInterval
// or more bytes after the last one that has. An index that is missing, damaged
// or made for other segment bytes is rebuilt by reading the segment, whose CRC
// is then checked too. Index files are never fsynced.
//
// # The tail
//
// Append copies a batch once, into chunks of page-aligned memory, and readers
// are given slices of those chunks. Chunks come from a budget that all logs of
// a node share (Writer). A chunk is
//
//	filling    dirty, or the one that the next batch goes to
//	clean      wholly in the file; kept for readers until memory is wanted
//	evicted    no longer found by readers; reused when the last one lets go
//
// A log that was idle begins with a small chunk and goes on with large ones
// once it has filled it, so that thousands of trickling partitions fit.
//
// The Writer's goroutines write full chunks as they fill, with O_DIRECT where
// the file system knows it (through the page cache this second write of every
// record cost half of all CPU). Partly filled chunks are written when SyncTo
// needs them, when their log has been idle, and when an Append waits for
// memory. Direct writes cover whole pages only; what sticks out at either end
// goes through the page cache, and every byte is written exactly once.
//
// # Recovery
//
// Open takes the State of the last durable manifest and cuts the files to it:
// other segments are removed, longer files truncated; a missing or shorter
// file is a DamageError. Of sealed segments only the length is checked. The
// active one is read once, its CRC compared and its index rebuilt. Raft then
// replays what came after.
//
// # Compaction
//
// Compact reads sealed segments twice: once those that were never compacted, for
// the last offset of each key (keymap.go), and once all of them, to leave out what
// has a later record with its key (compact_batch.go). As many neighbours as fit
// into one segment become one file. It is written, fsynced and named in the
// directory, and then takes their place in memory; readers that have the old ones
// go on. The State says which generation each segment has and how far a
// compaction has got, so that after a crash it goes on with the same groups.
//
// What was compacted has gaps: between batches, between the records of a batch, and
// at the ends of a segment, whose base is that of its first batch. A batch keeps
// its first and last offset, its producer and its sequence; its timestamps are
// relative to the delete horizon once it has tombstones that a compaction has met.
// Replaced files are obsolete as those below the log start are, and go when a State
// that was taken later is durable.
//
// # Damage
//
// Read checks the batches that come from a file and tells OnDamage of a segment
// that does not check. Pin.Digest sums up and checks what is stored, whatever its
// state, and goes on behind damage. Mend, or MendClosed where Open found it,
// replaces a damaged segment by bytes from elsewhere, if they have the length and
// CRC32C that State has of it: a sealed file by another one, after it was renamed
// to another directory; the active one by writing over it, since it is open for
// writing. What is fetched is complete, verified and fsynced before anything
// changes.
//
// # Lock order
//
// Log.compactMu (one Compact), Log.appendMu (one Append at a time), Log.syncMu (one SyncTo or removal at a
// time), Log.wmu (one writer of this log's files), Log.mu (state, held for
// moments, never across I/O), then tails.mu (memory), Writer.mu (queue), and the
// caches' locks. An Append that waits for memory holds appendMu only, and the
// writer never takes that.
//
// # Non-obvious
//
//   - c.end of a chunk may lie beyond the published length of its segment: a
//     batch larger than what is left of the budget is written in part before it
//     is complete. Readers and State go by segment.bytes.
//   - A chunk's memory is reused, the chunk itself is not: one that is still in
//     a segment's list may have lost its memory, and is read after tryRetain only.
//   - Chunks of one segment become clean, and are evicted, in file order:
//     what is in memory is a suffix of the segment.
//   - Memory that readers hold counts against nobody: an Append never waits
//     for a slow consumer.
//   - An obsolete segment is still written: a State taken before SetStart may
//     be on its way to SyncTo.
//   - A compaction that is given up in the middle leaves its part replaced, but
//     is not counted. The next one must then look at everything below it anew: a
//     tombstone may only go when all older records of its key have gone.
//   - Only Seq, UpTo and the segments decide what Compact makes. Memory decides how
//     often it reads them.
//   - RemoveObsolete goes by the durable State's start, not by its list: a
//     manifest older than the segment does not name it either.
//   - A write handle stays open while the file has bytes that were not
//     fsynced, since an error of the write-back is reported to it.
//   - Truncations and removals by Open are not fsynced: they are done again
//     after a crash, and replay writes the same bytes.
//   - A client that sets no MaxTimestamp (-1; sarama) would make time lookups
//     skip its batches: RepairMaxTimestamp belongs on the produce path. Where it
//     was not called the batch's base timestamp stands in.
package seglog
