package node

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/config"
	"github.com/raftsman/raftsman/internal/partition"
)

// brokerConfigs are the layers of a node's own configuration in a view. static
// is what its flags say.
func brokerConfigs(v *cluster.View, node int32, static map[string]string) config.Brokers {
	return config.Brokers{
		{Source: config.DynamicBroker, Values: v.Configs[node].Config},
		{Source: config.DynamicDefaultBroker, Values: v.Configs[0].Config},
		{Source: config.StaticBroker, Values: static},
	}
}

// baseSettings are the settings of topics that have set nothing, as long as the
// brokers' configurations are of the given revisions.
type baseSettings struct {
	own, all int64
	settings partition.Settings
}

// base returns the settings of a topic that has set nothing.
func (r *replicas) base(v *cluster.View) partition.Settings {
	own, all := v.Configs[r.self].ModRevision, v.Configs[0].ModRevision
	if b := r.bases.Load(); b != nil && b.own == own && b.all == all {
		return b.settings
	}
	brokers := brokerConfigs(v, r.self, r.static)
	var s partition.Settings
	for _, name := range config.TopicNames() {
		e, _ := brokers.Topic(nil, name)
		applyTopicConfig(&s, name, e.Value)
	}
	r.bases.Store(&baseSettings{own, all, s})
	return s
}

// settings reads a topic's configuration over what its brokers have set. Values
// were validated when they were written; what can't be read counts as not set.
func (r *replicas) settings(v *cluster.View, topic string) partition.Settings {
	s := r.base(v)
	for name, value := range v.Topics[topic].Config {
		if d, ok := config.Topic(name); ok && d.Check(value) == nil {
			applyTopicConfig(&s, name, value)
		}
	}
	if s.CleanupCompact && !s.CleanupDelete { // neither age nor size removes its records
		s.RetentionTime, s.RetentionBytes = -1, -1
	}
	return s
}

// applyTopicConfig sets what a topic's configuration means to its partitions.
func applyTopicConfig(s *partition.Settings, name, value string) {
	switch name {
	case "cleanup.policy":
		policies := config.Items(value)
		s.CleanupDelete, s.CleanupCompact = slices.Contains(policies, "delete"), slices.Contains(policies, "compact")
	case "delete.retention.ms":
		s.DeleteRetention = millis(value)
	case "max.compaction.lag.ms":
		s.MaxCompactionLag = limit(value)
	case "max.message.bytes":
		s.MaxMessageBytes = int32(config.Number(value))
	case "message.timestamp.after.max.ms":
		s.TimestampAfterMax = limit(value)
	case "message.timestamp.before.max.ms":
		s.TimestampBeforeMax = limit(value)
	case "message.timestamp.type":
		s.LogAppendTime = value == "LogAppendTime"
	case "min.cleanable.dirty.ratio":
		s.MinCleanableRatio, _ = strconv.ParseFloat(strings.TrimSpace(value), 64)
	case "min.compaction.lag.ms":
		s.MinCompactionLag = millis(value)
	case "retention.bytes":
		s.RetentionBytes = config.Number(value)
	case "retention.ms":
		s.RetentionTime = -1
		if d := millis(value); d != forEver {
			s.RetentionTime = d
		}
	case "segment.bytes":
		s.SegmentBytes = config.Number(value)
	case "segment.ms":
		s.SegmentTime = limit(value)
	}
}

// forEver is more milliseconds than a time.Duration holds.
const forEver = time.Duration(math.MaxInt64)

// millis reads a number of milliseconds; -1 and less are for ever, as is what a
// Duration can't hold.
func millis(value string) time.Duration {
	n := config.Number(value)
	if n < 0 || n > int64(forEver/time.Millisecond) {
		return forEver
	}
	return time.Duration(n) * time.Millisecond
}

// limit reads milliseconds for settings in which 0 is no limit: for ever is 0,
// and 0 the shortest time there is.
func limit(value string) time.Duration {
	switch d := millis(value); d {
	case forEver:
		return 0
	case 0:
		return 1
	default:
		return d
	}
}

// staticConfig is what flags say in terms of Kafka's broker configurations,
// where that is not the default.
func staticConfig(c *Config) map[string]string {
	static := make(map[string]string)
	set := func(name, value string) {
		if d, _ := config.Broker(name); d.Default != value {
			static[name] = value
		}
	}
	set("auto.create.topics.enable", strconv.FormatBool(c.AutoCreateTopics))
	set("log.segment.bytes", strconv.FormatInt(c.SegmentBytes, 10))
	set("message.max.bytes", strconv.Itoa(int(c.MessageMaxBytes)))
	set("num.partitions", strconv.Itoa(int(c.DefaultPartitions)))
	if c.DefaultReplicationFactor > 0 {
		set("default.replication.factor", strconv.Itoa(int(c.DefaultReplicationFactor)))
	}
	c.Groups.static(set)
	return static
}
