package node

import (
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/partition"
)

// What a topic's configuration means to its partitions, over what brokers have
// set.
func TestTopicSettings(t *testing.T) {
	cfg := Config{}
	cfg.setDefaults()
	cfg.SegmentBytes = 1 << 20
	r := &replicas{self: 2, static: staticConfig(&cfg)}
	v := &cluster.View{
		Topics: map[string]cluster.Topic{
			"plain":   {},
			"compact": {Config: map[string]string{"cleanup.policy": "compact", "retention.ms": "5", "retention.bytes": "6"}},
			"both":    {Config: map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "5"}},
			"all": {Config: map[string]string{
				"message.timestamp.type": "LogAppendTime", "message.timestamp.before.max.ms": "0", "message.timestamp.after.max.ms": "9223372036854775807",
				"segment.ms": "7", "segment.bytes": "20000", "retention.ms": "-1", "retention.bytes": "100", "max.message.bytes": "1000",
				"delete.retention.ms": "8", "min.compaction.lag.ms": "9", "max.compaction.lag.ms": "10", "min.cleanable.dirty.ratio": "0.25",
			}},
			"spoilt": {Config: map[string]string{"retention.ms": "soon", "segment.bytes": "1", "no.such": "1"}},
		},
	}
	const day = 24 * time.Hour
	plain := partition.Settings{
		SegmentBytes: 1 << 20, SegmentTime: 7 * day, RetentionTime: 7 * day, RetentionBytes: -1, MaxMessageBytes: 1<<20 + 12,
		CleanupDelete: true, DeleteRetention: day, MinCleanableRatio: 0.5, TimestampAfterMax: time.Hour,
	}
	with := func(change func(*partition.Settings)) partition.Settings {
		s := plain
		change(&s)
		return s
	}
	check := func(topic string, want partition.Settings) {
		t.Helper()
		if got := r.settings(v, topic); got != want {
			t.Errorf("%s:\n%+v, want\n%+v", topic, got, want)
		}
	}
	check("plain", plain)
	check("none", plain)
	check("spoilt", plain)
	check("compact", with(func(s *partition.Settings) {
		s.CleanupDelete, s.CleanupCompact, s.RetentionTime = false, true, -1
	}))
	check("both", with(func(s *partition.Settings) {
		s.CleanupCompact, s.RetentionTime = true, 5*time.Millisecond
	}))
	const ms = time.Millisecond
	check("all", partition.Settings{
		SegmentBytes: 20000, SegmentTime: 7 * ms, RetentionTime: -1, RetentionBytes: 100, MaxMessageBytes: 1000, CleanupDelete: true,
		DeleteRetention: 8 * ms, MinCompactionLag: 9 * ms, MaxCompactionLag: 10 * ms, MinCleanableRatio: 0.25,
		LogAppendTime: true, TimestampBeforeMax: 1,
	})

	// A later view in which brokers have set something: for this node, and for all.
	later := *v
	later.Configs = map[int32]cluster.BrokerConfig{
		0: {Config: map[string]string{"log.retention.hours": "2", "message.max.bytes": "77"}, ModRevision: 5},
		1: {Config: map[string]string{"message.max.bytes": "99"}, ModRevision: 6},
		2: {Config: map[string]string{"log.segment.bytes": "30000"}, ModRevision: 7},
	}
	v = &later
	check("plain", with(func(s *partition.Settings) {
		s.RetentionTime, s.MaxMessageBytes, s.SegmentBytes = 2*time.Hour, 77, 30000
	}))
	check("both", with(func(s *partition.Settings) {
		s.CleanupCompact, s.RetentionTime, s.MaxMessageBytes, s.SegmentBytes = true, 5*time.Millisecond, 77, 30000
	}))
}
