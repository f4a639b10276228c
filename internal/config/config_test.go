package config

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// Every configuration is described, and its own default is valid.
func TestTables(t *testing.T) {
	for _, table := range []map[string]*Def{topicDefs, brokerDefs} {
		for name, d := range table {
			if d.Doc == "" || !strings.HasSuffix(d.Doc, ".") || d.Type < Boolean || d.Type > List {
				t.Errorf("%s: %+v", name, d)
			}
			if !d.Unset && !(d.ReadOnly && d.Default == "") {
				if err := d.Check(d.Default); err != nil {
					t.Errorf("default: %v", err)
				}
			}
		}
	}
	for topic, list := range synonyms {
		d, ok := Topic(topic)
		if !ok {
			t.Fatalf("%s has synonyms and is unknown", topic)
		}
		last := list[len(list)-1]
		b, ok := Broker(last.Name)
		if !ok || scale(b.Default, last.Scale) != d.Default {
			t.Errorf("%s is %s, %s is %s", topic, d.Default, last.Name, b.Default)
		}
	}
	// Kafka 4's list, as clients and tools have it.
	for _, name := range strings.Fields(`cleanup.policy compression.gzip.level compression.lz4.level compression.type
		compression.zstd.level delete.retention.ms file.delete.delay.ms flush.messages flush.ms
		follower.replication.throttled.replicas index.interval.bytes leader.replication.throttled.replicas
		local.retention.bytes local.retention.ms max.compaction.lag.ms max.message.bytes
		message.timestamp.after.max.ms message.timestamp.before.max.ms message.timestamp.type
		min.cleanable.dirty.ratio min.compaction.lag.ms min.insync.replicas preallocate remote.log.copy.disable
		remote.log.delete.on.disable remote.storage.enable retention.bytes retention.ms segment.bytes
		segment.index.bytes segment.jitter.ms segment.ms unclean.leader.election.enable`) {
		if _, ok := Topic(name); !ok {
			t.Errorf("%s is unknown", name)
		}
	}
}

func TestTopicValues(t *testing.T) {
	check := func(line, want string) {
		t.Helper()
		name, value, _ := strings.Cut(line, "=")
		err := Brokers(nil).CheckTopic(map[string]string{name: value})
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: %v", line, err)
		}
	}
	invalid := func(line, why string) {
		t.Helper()
		name, value, _ := strings.Cut(line, "=")
		check(line, "Invalid value "+value+" for configuration "+name+": "+why)
	}
	check("cleanup.policy=delete", "")
	check("cleanup.policy=compact", "")
	check("cleanup.policy=compact,delete", "")
	check("cleanup.policy=delete, compact", "")
	invalid("cleanup.policy=", "Configuration value must not be empty")
	invalid("cleanup.policy=compact,compact", "Configuration value must not contain duplicates")
	invalid("cleanup.policy=compress", "String must be one of: compact, delete")
	check("retention.ms=-1", "")
	invalid("retention.ms=-2", "Value must be at least -1")
	invalid("retention.ms=1d", "Not a number of type LONG")
	invalid("retention.ms=9223372036854775808", "Not a number of type LONG")
	invalid("segment.bytes=2147483648", "Not a number of type INT")
	check("segment.bytes=14", "")
	invalid("segment.bytes=13", "Value must be at least 14")
	invalid("max.message.bytes=67108865", "Value must be no more than 67108864")
	check("min.cleanable.dirty.ratio=0.01", "")
	invalid("min.cleanable.dirty.ratio=1.1", "Value must be no more than 1")
	invalid("min.cleanable.dirty.ratio=NaN", "Value must be at least 0")
	check("message.timestamp.type=LogAppendTime", "")
	invalid("message.timestamp.type=logappendtime", "String must be one of: CreateTime, LogAppendTime")
	check("preallocate=TRUE", "")
	invalid("preallocate=yes", "Expected value to be either true or false")
	check("flush.ms=1", "")
	check("unclean.leader.election.enable=false", "")
	invalid("unclean.leader.election.enable=true", "a replica without all acknowledged records never leads; see raftsman partition recover")
	invalid("remote.storage.enable=true", "there is no tiered storage")
	check("compression.type=producer", "")
	check("compression.type=gzip", "")
	invalid("compression.type=brotli", "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer")
	check("leader.replication.throttled.replicas=*", "")
	check("leader.replication.throttled.replicas=0:1,0:2", "")
	check("leader.replication.throttled.replicas=", "")
	invalid("leader.replication.throttled.replicas=0", "must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...")
	invalid("compression.gzip.level=0", "Value must be between 1 and 9 or equal to -1")
	check("message.format.version=3.0", "Unknown topic config name: message.format.version")
	if err := Brokers(nil).CheckTopic(map[string]string{"min.compaction.lag.ms": "5", "max.compaction.lag.ms": "4"}); err == nil ||
		err.Error() != "conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (4)" {
		t.Error(err)
	}
}

// What counts, in order: the topic, the node, all nodes, flags, the default.
func TestLayers(t *testing.T) {
	topic := map[string]string{"retention.ms": "1"}
	own := Layer{DynamicBroker, map[string]string{"log.retention.minutes": "2"}}
	all := Layer{DynamicDefaultBroker, map[string]string{"log.retention.hours": "3", "log.retention.ms": "4"}}
	flags := Layer{StaticBroker, map[string]string{"log.retention.ms": "5"}}
	check := func(set map[string]string, b Brokers, want string, source Source, synonyms ...Value) {
		t.Helper()
		e, ok := b.Topic(set, "retention.ms")
		if !ok || e.Value != want || e.Source != source || !slices.Equal(e.Synonyms, synonyms) {
			t.Errorf("%+v", e)
		}
	}
	def := Value{"log.retention.hours", "168", Default}
	two, four, three := Value{"log.retention.minutes", "2", DynamicBroker}, Value{"log.retention.ms", "4", DynamicDefaultBroker}, Value{"log.retention.hours", "3", DynamicDefaultBroker}
	five := Value{"log.retention.ms", "5", StaticBroker}
	check(nil, nil, "604800000", Default, def)
	check(topic, nil, "1", DynamicTopic, Value{"retention.ms", "1", DynamicTopic}, def)
	check(nil, Brokers{own, all, flags}, "120000", DynamicBroker, two, four, three, five, def)
	check(nil, Brokers{all, flags}, "4", DynamicDefaultBroker, four, three, five, def)
	check(nil, Brokers{flags}, "5", StaticBroker, five, def)
	check(nil, Brokers{{StaticBroker, map[string]string{"log.retention.hours": "-1"}}}, "-1", StaticBroker, Value{"log.retention.hours", "-1", StaticBroker}, def)
	if e, ok := (Brokers{all}).Topic(nil, "preallocate"); !ok || e.Value != "false" || e.Source != Default {
		t.Errorf("%+v", e)
	}
	if e, ok := (Brokers{own}).Broker("log.retention.hours"); !ok || e.Value != "168" || e.Source != Default {
		t.Errorf("%+v", e)
	}
	null := func(b Brokers, name string, source Source, synonyms ...Value) {
		t.Helper()
		if e, ok := b.Broker(name); !ok || !e.Null || e.Value != "" || e.Source != source || !slices.Equal(e.Synonyms, synonyms) {
			t.Errorf("%s: %+v", name, e)
		}
	}
	null(nil, "broker.rack", Default)
	null(nil, "log.retention.ms", Default, def)
	null(nil, "log.retention.minutes", Default, def)
	null(Brokers{own}, "log.retention.ms", DynamicBroker, two, def)
	if e, ok := (Brokers{flags}).Broker("log.retention.ms"); !ok || e.Null || e.Value != "5" {
		t.Errorf("%+v", e)
	}
	if e, ok := (Brokers{}).Broker("log.retention.days"); ok {
		t.Errorf("it is unknown: %+v", e)
	}
}

func TestAlter(t *testing.T) {
	now := map[string]string{"cleanup.policy": "compact", "retention.ms": "5"}
	check := func(c Change, want string) {
		t.Helper()
		next, err := Brokers(nil).AlterTopic(now, c)
		got := ""
		for _, name := range slices.Sorted(maps.Keys(next)) {
			got += name + "=" + next[name] + " "
		}
		if err != nil {
			got = err.Error()
		}
		if strings.TrimSpace(got) != want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	check(Change{Ops: []Op{{Set, "retention.ms", "6"}}}, "cleanup.policy=compact retention.ms=6")
	check(Change{Ops: []Op{{Delete, "retention.ms", ""}, {Delete, "flush.ms", ""}}}, "cleanup.policy=compact")
	check(Change{Ops: []Op{{Append, "cleanup.policy", "delete"}}}, "cleanup.policy=compact,delete retention.ms=5")
	check(Change{Ops: []Op{{Append, "cleanup.policy", "compact"}}}, "cleanup.policy=compact retention.ms=5")
	check(Change{Ops: []Op{{Subtract, "cleanup.policy", "compact"}}}, "Invalid value  for configuration cleanup.policy: Configuration value must not be empty")
	check(Change{Ops: []Op{{Append, "leader.replication.throttled.replicas", "0:1,0:2"}}}, "cleanup.policy=compact leader.replication.throttled.replicas=0:1,0:2 retention.ms=5")
	check(Change{Ops: []Op{{Append, "retention.ms", "1"}}}, "Can't APPEND to key retention.ms because its type is not LIST.")
	check(Change{Ops: []Op{{Set, "x", "1"}}}, "Unknown topic config name: x")
	check(Change{Ops: []Op{{Set, "flush.ms", "1"}}, Replace: true}, "flush.ms=1")
	check(Change{Replace: true}, "")
	if now["retention.ms"] != "5" || len(now) != 2 {
		t.Errorf("what was set has changed: %v", now)
	}
	// Without a value of its own a list begins with what is inherited.
	if next, err := Brokers(nil).AlterTopic(nil, Change{Ops: []Op{{Append, "cleanup.policy", "compact"}}}); err != nil || next["cleanup.policy"] != "delete,compact" {
		t.Error(next, err)
	}
	if _, err := Brokers(nil).AlterBroker(nil, Change{Ops: []Op{{Set, "min.insync.replicas", "3"}}}); err == nil {
		t.Error("no topic of three replicas could keep min.insync.replicas=3")
	}
	if fixed := (Change{Ops: []Op{{Set, "broker.id", "3"}, {Set, "num.partitions", "3"}}}).ReadOnly(); !slices.Equal(fixed, []string{"broker.id"}) {
		t.Error(fixed)
	}
}

// Whatever a value is, checking it neither panics nor lets through what does not
// read back.
func FuzzCheck(f *testing.F) {
	for _, name := range TopicNames() {
		d, _ := Topic(name)
		f.Add(name, d.Default)
		f.Add(name, "-1")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		d, ok := Topic(name)
		if !ok || d.Check(value) != nil {
			return
		}
		if (d.Type == Int || d.Type == Long) && value != "" && Number(value) == 0 && !strings.Contains(value, "0") {
			t.Errorf("%s=%q counts as 0", name, value)
		}
	})
}
