package config

import "fmt"

// Reasons why a configuration has no effect.
const (
	inertFlush    = "every record is fsynced on a majority before it is acknowledged"
	inertIndex    = "indexes are sized by the server"
	inertRemote   = "there is no tiered storage"
	inertLevel    = "the server does not compress: batches stay as producers sent them"
	inertThrottle = "moves are throttled by --rebalance-rate"
	inertFiles    = "files go when a snapshot no longer needs them"
)

// refuseTrue refuses to switch on what does not exist here.
func refuseTrue(why string) func(string) string {
	return func(v string) string {
		if Bool(v) {
			return why
		}
		return ""
	}
}

// topicTable is every topic configuration of Kafka 4.
var topicTable = []Def{
	{Name: "cleanup.policy", Type: List, Default: "delete", valid: listOf("compact", "delete"),
		Doc: "What becomes of old records: they are deleted by time and size, or all but the last of each key are (compact), or both."},
	{Name: "compression.gzip.level", Type: Int, Default: "-1", valid: gzipLevel, Inert: inertLevel,
		Doc: "Level of gzip for compression.type=gzip."},
	{Name: "compression.lz4.level", Type: Int, Default: "9", valid: between(1, 17), Inert: inertLevel,
		Doc: "Level of lz4 for compression.type=lz4."},
	{Name: "compression.type", Type: String, Default: "producer", valid: oneOf("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"), Inert: inertLevel,
		Doc: "How batches are compressed: as the producer has done it."},
	{Name: "compression.zstd.level", Type: Int, Default: "3", valid: between(-131072, 22), Inert: inertLevel,
		Doc: "Level of zstd for compression.type=zstd."},
	{Name: "delete.retention.ms", Type: Long, Default: "86400000", valid: atLeast(0),
		Doc: "How long the mark of a deleted key stays in a compacted topic."},
	{Name: "file.delete.delay.ms", Type: Long, Default: "60000", valid: atLeast(0), Inert: inertFiles,
		Doc: "How long a file that was deleted stays."},
	{Name: "flush.messages", Type: Long, Default: "9223372036854775807", valid: atLeast(1), Inert: inertFlush,
		Doc: "After how many records the log is fsynced."},
	{Name: "flush.ms", Type: Long, Default: "9223372036854775807", valid: atLeast(0), Inert: inertFlush,
		Doc: "After how long the log is fsynced."},
	{Name: "follower.replication.throttled.replicas", Type: List, valid: throttled, Inert: inertThrottle,
		Doc: "Replicas whose replication is throttled on the follower."},
	{Name: "index.interval.bytes", Type: Int, Default: "4096", valid: atLeast(0), Inert: inertIndex,
		Doc: "How many bytes of records lie between two entries of the index."},
	{Name: "leader.replication.throttled.replicas", Type: List, valid: throttled, Inert: inertThrottle,
		Doc: "Replicas whose replication is throttled on the leader."},
	{Name: "local.retention.bytes", Type: Long, Default: "-2", valid: atLeast(-2), Inert: inertRemote,
		Doc: "Bytes of a partition kept locally beside tiered storage."},
	{Name: "local.retention.ms", Type: Long, Default: "-2", valid: atLeast(-2), Inert: inertRemote,
		Doc: "How long records are kept locally beside tiered storage."},
	{Name: "max.compaction.lag.ms", Type: Long, Default: "9223372036854775807", valid: atLeast(1),
		Doc: "How long a record may stay uncompacted."},
	{Name: "max.message.bytes", Type: Int, Default: "1048588", valid: between(0, maxBatch),
		Doc: fmt.Sprintf("The largest record batch that is taken, compressed; at most %d.", maxBatch)},
	{Name: "message.timestamp.after.max.ms", Type: Long, Default: "3600000", valid: atLeast(0),
		Doc: "How far a record's timestamp may be ahead of the leader's clock."},
	{Name: "message.timestamp.before.max.ms", Type: Long, Default: "9223372036854775807", valid: atLeast(0),
		Doc: "How far a record's timestamp may be behind the leader's clock."},
	{Name: "message.timestamp.type", Type: String, Default: "CreateTime", valid: oneOf("CreateTime", "LogAppendTime"),
		Doc: "Whether a record's timestamp is its producer's or the leader's."},
	{Name: "min.cleanable.dirty.ratio", Type: Double, Default: "0.5", valid: ratio,
		Doc: "What part of a log is uncompacted before it is compacted."},
	{Name: "min.compaction.lag.ms", Type: Long, Default: "0", valid: atLeast(0),
		Doc: "How long a record stays uncompacted at least."},
	{Name: "min.insync.replicas", Type: Int, Default: "1", valid: atLeast(1),
		Doc: "How many replicas have a record before it is acknowledged. It is a majority whatever this says; more than that is refused."},
	{Name: "preallocate", Type: Boolean, Default: "false", Inert: "files are preallocated by the server",
		Doc: "Whether a new segment's file is preallocated."},
	{Name: "remote.log.copy.disable", Type: Boolean, Default: "false", Inert: inertRemote,
		Doc: "Whether nothing more is copied to tiered storage."},
	{Name: "remote.log.delete.on.disable", Type: Boolean, Default: "false", Inert: inertRemote,
		Doc: "Whether what is in tiered storage goes when that is switched off."},
	{Name: "remote.storage.enable", Type: Boolean, Default: "false", refuse: refuseTrue("there is no tiered storage"),
		Doc: "Whether the topic has tiered storage."},
	{Name: "retention.bytes", Type: Long, Default: "-1", valid: atLeast(-1),
		Doc: "How large a partition becomes before its oldest segments are deleted; -1 is no limit."},
	{Name: "retention.ms", Type: Long, Default: "604800000", valid: atLeast(-1),
		Doc: "How long records are kept; -1 is for ever."},
	{Name: "segment.bytes", Type: Int, Default: "268435456", valid: atLeast(minSegment),
		Doc: "The size at which a new segment begins."},
	{Name: "segment.index.bytes", Type: Int, Default: "10485760", valid: atLeast(4), Inert: inertIndex,
		Doc: "How large a segment's index becomes."},
	{Name: "segment.jitter.ms", Type: Long, Default: "0", valid: atLeast(0), Inert: "segments of different partitions do not disturb each other",
		Doc: "How much earlier, at random, a segment's age ends it."},
	{Name: "segment.ms", Type: Long, Default: "604800000", valid: atLeast(1),
		Doc: "The age at which a new segment begins."},
	{Name: "unclean.leader.election.enable", Type: Boolean, Default: "false",
		refuse: refuseTrue("a replica without all acknowledged records never leads; see raftsman partition recover"),
		Doc:    "Whether a replica that lacks acknowledged records may lead."},
}

const (
	maxBatch   = 64 << 20
	minSegment = 14 // Kafka's until version 4, where it is 1 MiB; tests of clients set 200 to have segments compacted
)

// synonyms are where defaults of topic configurations come from.
var synonyms = map[string][]Synonym{
	"cleanup.policy":                  {{"log.cleanup.policy", 1}},
	"compression.gzip.level":          {{"compression.gzip.level", 1}},
	"compression.lz4.level":           {{"compression.lz4.level", 1}},
	"compression.type":                {{"compression.type", 1}},
	"compression.zstd.level":          {{"compression.zstd.level", 1}},
	"delete.retention.ms":             {{"log.cleaner.delete.retention.ms", 1}},
	"file.delete.delay.ms":            {{"log.segment.delete.delay.ms", 1}},
	"flush.messages":                  {{"log.flush.interval.messages", 1}},
	"flush.ms":                        {{"log.flush.interval.ms", 1}, {"log.flush.scheduler.interval.ms", 1}},
	"index.interval.bytes":            {{"log.index.interval.bytes", 1}},
	"local.retention.bytes":           {{"log.local.retention.bytes", 1}},
	"local.retention.ms":              {{"log.local.retention.ms", 1}},
	"max.compaction.lag.ms":           {{"log.cleaner.max.compaction.lag.ms", 1}},
	"max.message.bytes":               {{"message.max.bytes", 1}},
	"message.timestamp.after.max.ms":  {{"log.message.timestamp.after.max.ms", 1}},
	"message.timestamp.before.max.ms": {{"log.message.timestamp.before.max.ms", 1}},
	"message.timestamp.type":          {{"log.message.timestamp.type", 1}},
	"min.cleanable.dirty.ratio":       {{"log.cleaner.min.cleanable.ratio", 1}},
	"min.compaction.lag.ms":           {{"log.cleaner.min.compaction.lag.ms", 1}},
	"min.insync.replicas":             {{"min.insync.replicas", 1}},
	"preallocate":                     {{"log.preallocate", 1}},
	"retention.bytes":                 {{"log.retention.bytes", 1}},
	"retention.ms":                    {{"log.retention.ms", 1}, {"log.retention.minutes", 60_000}, {"log.retention.hours", 3_600_000}},
	"segment.bytes":                   {{"log.segment.bytes", 1}},
	"segment.index.bytes":             {{"log.index.size.max.bytes", 1}},
	"segment.jitter.ms":               {{"log.roll.jitter.ms", 1}, {"log.roll.jitter.hours", 3_600_000}},
	"segment.ms":                      {{"log.roll.ms", 1}, {"log.roll.hours", 3_600_000}},
	"unclean.leader.election.enable":  {{"unclean.leader.election.enable", 1}},
}
