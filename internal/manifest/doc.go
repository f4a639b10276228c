// Package manifest keeps the raft snapshots of all groups of a node in one log.
//
// A raft snapshot here is a manifest: a few hundred bytes to a few megabytes
// that name the segments of a partition, with lengths and checksums, and carry
// the rest of its state. The data itself stays in the segments.
//
// # Format
//
// The directory holds one file, <generation in hex>.manifests; a second one
// exists only while the log is rewritten. A file is a header and records:
//
//	header   magic "RMANIF02" | u32 length | u32 crc32c | identity as JSON
//	record   u32 magic | u32 length of body | u32 crc32c of body | body
//	body     u8 kind | u64 group | kind 1 only: u32 length of meta | meta (JSON) | payload
//
// Integers are little endian. Kind 1 is a snapshot and replaces the group's
// older one, kind 2 forgets the group. Kind 3 is a batch, snapshots of several
// groups that share a write:
//
//	body     u8 3 | u64 count | records of kind 1 with another magic
//
// The magic "RMANIF01" of the first version says that there are no batches; such
// a log is rewritten when it is opened.
//
// # Batches
//
// Snapshots of many groups come at once. Who is first waits for those that have
// begun (Create), 50 ms at most, and writes all of them as one record with one
// fsync. The batch has a checksum of its own, and its parts another magic than
// records: so it is whole or absent, and no part of a torn one passes for a
// record that was written after it.
//
// # Recovery
//
// A record is written and fsynced before the next one is begun. So at most the
// last record can be torn: a record that does not check is cut off when nothing
// valid follows it, and is damage (DamageError) when something does. The cut is
// durable before anything is written there, so no later write can complete a
// record that was cut off; and what Open lists is durable when it returns.
//
// A flipped bit in the very last record looks like a torn one. The snapshot
// before it is used then, and the group's owner finds out whether the log still
// reaches back that far (see replication.Host).
//
// # Rewriting
//
// When more than half of a file is superseded it is written anew: live records
// to a temporary file, fsync, rename to the next generation, fsync of the
// directory, removal of the old one. Open takes the newest generation.
package manifest
