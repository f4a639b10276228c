// Package backup copies topics, their configurations and the offsets of consumer
// groups out of a cluster, and back into one.
//
// # Layout
//
// A Place holds any number of backups that share their data. Names end in the
// SHA-256 of what they hold, so that every byte of a backup is checked by the name
// that leads to it, from the manifest's own name on.
//
//	data/<topic id>/<partition>/<first offset, 20 digits>-<sha256>.batches
//	backups/<id>/plan-<sha256>.json                       what was to be backed up, up to where
//	backups/<id>/parts/<topic id>-<partition>-<sha256>.json   the objects of a partition
//	backups/<id>/manifest-<sha256>.json                   written last: the backup is complete
//
// An object holds Kafka record batches, back to back, as the cluster has them. The id
// is the time at which the backup began, so that ids sort by age.
//
// # Consistency
//
// The offsets of groups are read first, then where each partition ends. A partition is
// backed up from its log start to that end. So no group has an offset behind the
// end of its partition.
//
// # Increments
//
// A backup goes on behind the objects that the last complete one in the place has of
// the same topic (by id), once the last batch of them is what the cluster has there. One
// that was interrupted goes on behind its own objects in the same way. Where a topic
// is compacted everything is read again: what compaction removed since, tombstones
// among it, would come back otherwise. Objects that are the same are not written again.
//
// # Restore
//
// A partition is filled by its leader's refill (internal/partition): batches keep
// their offsets. Each object is checked as a whole before anything of it is sent.
// Partitions open for producers when all of them are complete.
package backup
