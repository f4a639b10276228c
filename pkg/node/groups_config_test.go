package node

import (
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/config"
)

// What groups are configured like: flags, over which comes what was altered for all
// nodes, over which comes what was altered for one.
func TestGroupsAltered(t *testing.T) {
	view := func(all, own map[string]string) config.Brokers {
		v := &cluster.View{Configs: map[int32]cluster.BrokerConfig{0: {Config: all}, 2: {Config: own}}}
		cfg := Config{Groups: Groups{MaxSize: 7, OffsetsRetention: 90 * time.Second, InitialRebalanceDelay: -1, TopicReplicationFactor: 2}}
		cfg.setDefaults()
		return brokerConfigs(v, 2, staticConfig(&cfg))
	}
	flags := Groups{MaxSize: 7, OffsetsRetention: 90 * time.Second, InitialRebalanceDelay: -1}
	type settings struct {
		min, max, delay, retention, check time.Duration
		size, metadata                    int
	}
	plain := settings{6 * time.Second, 30 * time.Minute, -1, 90 * time.Second, 10 * time.Minute, 7, 4096}
	for name, c := range map[string]struct {
		all, own map[string]string
		want     func(*settings)
	}{
		"flags": {nil, nil, func(*settings) {}},
		"all": {map[string]string{"group.min.session.timeout.ms": "10", "group.max.session.timeout.ms": "20", "group.initial.rebalance.delay.ms": "30",
			"offsets.retention.minutes": "2", "offsets.retention.check.interval.ms": "40", "group.max.size": "3", "offset.metadata.max.bytes": "5"}, nil,
			func(s *settings) {
				*s = settings{10 * time.Millisecond, 20 * time.Millisecond, 30 * time.Millisecond, 2 * time.Minute, 40 * time.Millisecond, 3, 5}
			}},
		"own before all":  {map[string]string{"group.max.size": "3"}, map[string]string{"group.max.size": "4"}, func(s *settings) { s.size = 4 }},
		"no delay":        {map[string]string{"group.initial.rebalance.delay.ms": "0"}, nil, func(*settings) {}},
		"for ever":        {map[string]string{"offsets.retention.minutes": "2147483647"}, nil, func(s *settings) { s.retention = -1 }},
		"broken":          {map[string]string{"group.max.size": "none"}, nil, func(*settings) {}},
		"at odds in etcd": {map[string]string{"group.min.session.timeout.ms": "2000000"}, nil, func(s *settings) { s.min, s.max = 2000*time.Second, 2000*time.Second }},
	} {
		want := plain
		c.want(&want)
		g := flags.altered(view(c.all, c.own))
		if err := g.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if have := (settings{g.MinSessionTimeout, g.MaxSessionTimeout, g.InitialRebalanceDelay, g.OffsetsRetention, g.OffsetsRetentionCheck, g.MaxSize, g.MaxOffsetMetadata}); have != want {
			t.Errorf("%s:\n%+v, want\n%+v", name, have, want)
		}
	}
	b := view(nil, nil)
	for name, want := range map[string]string{
		"group.max.size": "7", "offsets.retention.minutes": "2", "group.initial.rebalance.delay.ms": "0", "offsets.topic.replication.factor": "2",
		"offsets.topic.num.partitions": "50", "group.min.session.timeout.ms": "6000",
	} {
		if e, ok := b.Broker(name); !ok || e.Value != want {
			t.Errorf("%s is %q, want %s", name, e.Value, want)
		}
	}
	if n, set := offsetsReplicas(b); n != 2 || !set {
		t.Errorf("%d replicas, set: %v", n, set)
	}
	if n, set := offsetsReplicas(config.Brokers{}); n != 3 || set {
		t.Errorf("by default %d replicas, set: %v", n, set)
	}
	low := config.Change{Ops: []config.Op{{Kind: config.Set, Name: "group.max.session.timeout.ms", Value: "5000"}}}
	next, err := b.AlterBroker(nil, low)
	if err == nil {
		err = b.With(config.DynamicBroker, next).CheckBroker()
	}
	if err == nil {
		t.Error("the longest session timeout may be below the shortest")
	}
}
