package node

import (
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/config"
	"github.com/raftsman/raftsman/internal/group"
)

// machine is the configuration of the groups' state machine.
func (g Groups) machine() group.Config {
	return group.Config{
		MinSessionTimeout: g.MinSessionTimeout, MaxSessionTimeout: g.MaxSessionTimeout,
		InitialRebalanceDelay: g.InitialRebalanceDelay, MaxSize: g.MaxSize, MaxOffsetMetadata: g.MaxOffsetMetadata,
		OffsetsRetention: g.OffsetsRetention, OffsetsRetentionCheck: g.OffsetsRetentionCheck,
		NewMemberID: func(client string) string { return client + "-" + uuid.NewString() },
	}.WithDefaults()
}

// static is what the flags say in terms of Kafka's broker configurations. Less
// than one of a name's unit is one, and for ever as much as the name can say.
func (g Groups) static(set func(name, value string)) {
	m := g.machine()
	number := func(name string, n int64) { set(name, strconv.FormatInt(min(max(n, 1), math.MaxInt32), 10)) }
	in := func(name string, d, unit time.Duration) {
		if d < 0 {
			d = forEver
		}
		number(name, int64((d+unit-1)/unit))
	}
	in("group.min.session.timeout.ms", m.MinSessionTimeout, time.Millisecond)
	in("group.max.session.timeout.ms", m.MaxSessionTimeout, time.Millisecond)
	in("offsets.retention.minutes", m.OffsetsRetention, time.Minute)
	in("offsets.retention.check.interval.ms", m.OffsetsRetentionCheck, time.Millisecond)
	set("group.initial.rebalance.delay.ms", strconv.FormatInt(max(m.InitialRebalanceDelay, 0).Milliseconds(), 10))
	number("group.max.size", int64(m.MaxSize))
	number("offset.metadata.max.bytes", int64(m.MaxOffsetMetadata))
	number("offsets.topic.num.partitions", int64(g.TopicPartitions))
	if g.TopicReplicationFactor > 0 {
		number("offsets.topic.replication.factor", int64(g.TopicReplicationFactor))
	}
}

// altered is the machine's configuration with what was altered while nodes ran.
func (g Groups) altered(b config.Brokers) group.Config {
	c := g.machine()
	dynamic := func(name string, apply func(n int64)) {
		e, ok := b.Broker(name)
		if ok && (e.Source == config.DynamicBroker || e.Source == config.DynamicDefaultBroker) && e.Def.Check(e.Value) == nil {
			apply(config.Number(e.Value))
		}
	}
	duration := func(name string, unit time.Duration, d *time.Duration) {
		dynamic(name, func(n int64) {
			*d = -1 // for ever
			if n <= int64(forEver/unit) {
				*d = time.Duration(n) * unit
			}
		})
	}
	duration("group.min.session.timeout.ms", time.Millisecond, &c.MinSessionTimeout)
	duration("group.max.session.timeout.ms", time.Millisecond, &c.MaxSessionTimeout)
	duration("group.initial.rebalance.delay.ms", time.Millisecond, &c.InitialRebalanceDelay)
	duration("offsets.retention.minutes", time.Minute, &c.OffsetsRetention)
	duration("offsets.retention.check.interval.ms", time.Millisecond, &c.OffsetsRetentionCheck)
	if c.InitialRebalanceDelay == 0 {
		c.InitialRebalanceDelay = -1
	}
	if c.OffsetsRetentionCheck < 0 {
		c.OffsetsRetentionCheck = forEver
	}
	c.MaxSessionTimeout = max(c.MaxSessionTimeout, c.MinSessionTimeout) // of two layers that don't know each other
	dynamic("group.max.size", func(n int64) { c.MaxSize = int(n) })
	dynamic("offset.metadata.max.bytes", func(n int64) { c.MaxOffsetMetadata = int(n) })
	return c
}

// offsetsPartitions is how many partitions __consumer_offsets gets when it is made.
func offsetsPartitions(b config.Brokers) int32 {
	e, _ := b.Broker("offsets.topic.num.partitions")
	return int32(config.Number(e.Value))
}

// offsetsReplicas is how many replicas __consumer_offsets shall have; set is false
// if nobody has said so, and fewer nodes make do with fewer.
func offsetsReplicas(b config.Brokers) (n int, set bool) {
	e, _ := b.Broker("offsets.topic.replication.factor")
	return int(config.Number(e.Value)), e.Source != config.Default
}

func (g Groups) validate(p *problems) {
	if g.TopicPartitions < 1 || g.TopicPartitions > cluster.MaxPartitions {
		p.add("--offsets-topic-partitions", g.TopicPartitions, "use 1 to %d", cluster.MaxPartitions)
	}
	if g.TopicReplicationFactor < 0 || g.TopicReplicationFactor > cluster.MaxReplicas {
		p.add("--offsets-topic-replication-factor", g.TopicReplicationFactor, "use 0 for three or as many as there are nodes, or 1 to %d", cluster.MaxReplicas)
	}
	m := g.machine()
	if m.MinSessionTimeout < time.Millisecond {
		p.add("--group-min-session-timeout", m.MinSessionTimeout, "use at least 1ms")
	}
	if m.MaxSessionTimeout < m.MinSessionTimeout {
		p.add("--group-max-session-timeout", m.MaxSessionTimeout, "use at least --group-min-session-timeout, which is %v", m.MinSessionTimeout)
	}
	if m.MaxSize < 1 {
		p.add("--group-max-size", m.MaxSize, "use a positive number")
	}
	if m.OffsetsRetentionCheck < time.Millisecond {
		p.add("--offsets-retention-check-interval", m.OffsetsRetentionCheck, "use at least 1ms")
	}
	if m.MaxOffsetMetadata < 0 {
		p.add("--offset-metadata-max-bytes", m.MaxOffsetMetadata, "use 1 or more")
	}
}
