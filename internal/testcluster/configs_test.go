package testcluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// configOf is a configuration of a topic as all of its sources have it.
func configOf(t *testing.T, adm *kadm.Client, topic, name string) (c kadm.Config) {
	t.Helper()
	var rs kadm.ResourceConfigs
	testetcd.Eventually(t, "the node that is asked to know the topic", func() bool {
		var err error
		if rs, err = adm.DescribeTopicConfigs(t.Context(), topic); err == nil {
			err = rs[0].Err
		}
		if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Fatal(err)
		}
		return err == nil
	})
	for _, c := range rs[0].Configs {
		if c.Key == name {
			return c
		}
	}
	t.Fatalf("%s has no %s", topic, name)
	return c
}

// set changes one configuration of a topic; an empty value deletes it.
func set(ctx context.Context, adm *kadm.Client, topic, name, value string) error {
	rs, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{change(name, value)}, topic)
	if err != nil {
		return err
	}
	return explain(rs[0])
}

func change(name, value string) kadm.AlterConfig {
	if value == "" {
		return kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name}
	}
	return kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value}
}

func explain(r kadm.AlterConfigsResponse) error {
	if r.Err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", r.Err, r.ErrMessage)
}

// setAll is set for all brokers together.
func setAll(t *testing.T, adm *kadm.Client, name, value string) {
	t.Helper()
	rs, err := adm.AlterBrokerConfigs(t.Context(), []kadm.AlterConfig{change(name, value)})
	if err == nil {
		err = explain(rs[0])
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A changed configuration reaches running partitions, whatever its source, and
// so does its removal; the start of the log follows retention.
func TestAlteredConfigsTakeEffect(t *testing.T) {
	c := Start(t, 3, nil)
	client := c.Client(kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	adm := kadm.NewClient(client)
	if _, err := adm.CreateTopic(t.Context(), 1, 3, map[string]*string{"segment.ms": kadm.StringPtr("60000")}, "t"); err != nil {
		t.Fatal(err)
	}
	produce := func(size int) error {
		return client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: make([]byte, size)}).FirstErr()
	}
	refused := func() bool { return errors.Is(produce(2000), kerr.MessageTooLarge) }
	taken := func() bool {
		err := produce(2000)
		if err != nil && !errors.Is(err, kerr.MessageTooLarge) {
			t.Fatal(err)
		}
		return err == nil
	}
	testetcd.Eventually(t, "records of 2000 bytes to be taken", taken)

	if err := set(t.Context(), adm, "t", "max.message.bytes", "1000"); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "the topic's limit to count", refused)
	testetcd.Eventually(t, "every node to know it", func() bool {
		got := configOf(t, adm, "t", "max.message.bytes")
		return got.Source.String() == "DYNAMIC_TOPIC_CONFIG" && *got.Value == "1000"
	})
	if err := set(t.Context(), adm, "t", "max.message.bytes", ""); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "the topic's limit to be gone", taken)

	setAll(t, adm, "message.max.bytes", "1001")
	testetcd.Eventually(t, "the brokers' limit to count", refused)
	testetcd.Eventually(t, "every node to know it", func() bool {
		got := configOf(t, adm, "t", "max.message.bytes")
		return got.Source.String() == "DYNAMIC_DEFAULT_BROKER_CONFIG" && *got.Value == "1001" && got.Synonyms[0].Key == "message.max.bytes"
	})
	setAll(t, adm, "message.max.bytes", "")
	testetcd.Eventually(t, "the brokers' limit to be gone", taken)

	// Retention of a running partition: everything is older than a millisecond.
	if err := set(t.Context(), adm, "t", "retention.ms", "1"); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "the log start to rise", func() bool {
		start, err := adm.ListStartOffsets(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		return start["t"][0].Offset > 0
	})
}

// Many clients alter the same topic on different nodes: no change is lost.
func TestConcurrentAltersAreAllKept(t *testing.T) {
	c := Start(t, 3, nil)
	adm := kadm.NewClient(c.Client())
	if _, err := adm.CreateTopic(t.Context(), 1, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	wanted := map[string]string{
		"retention.ms": "1001", "retention.bytes": "1002", "segment.bytes": "100003", "max.message.bytes": "1004",
		"segment.ms": "1005", "flush.ms": "1006", "delete.retention.ms": "1007", "min.compaction.lag.ms": "1008",
	}
	errs := make(chan error, len(wanted))
	for name, value := range wanted {
		one := kadm.NewClient(c.Client())
		go func() { errs <- set(t.Context(), one, "t", name, value) }()
	}
	for range wanted {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	testetcd.Eventually(t, "all changes", func() bool {
		for name, value := range wanted {
			if *configOf(t, adm, "t", name).Value != value {
				return false
			}
		}
		return true
	})
}

// What is refused, with Kafka's words, changes nothing.
func TestAlterRefusals(t *testing.T) {
	c := Start(t, 1, nil)
	adm := kadm.NewClient(c.Client())
	ctx := t.Context()
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		name, value string
		code        *kerr.Error
		words       string
	}{
		{"retention.ms", "x", kerr.InvalidConfig, "Invalid value x for configuration retention.ms: Not a number of type LONG"},
		{"no.such", "1", kerr.InvalidConfig, "Unknown topic config name: no.such"},
		{"unclean.leader.election.enable", "true", kerr.InvalidConfig, "never leads"},
		{"remote.storage.enable", "true", kerr.InvalidConfig, "there is no tiered storage"},
		{"compression.type", "zstd", nil, ""},
		{"min.insync.replicas", "2", kerr.InvalidConfig, "a majority (1 of 1)"},
		{"min.compaction.lag.ms", "9223372036854775807", nil, ""},
	} {
		err := set(ctx, adm, "t", r.name, r.value)
		if r.code == nil && err != nil || r.code != nil && (!errors.Is(err, r.code) || !strings.Contains(err.Error(), r.words)) {
			t.Errorf("%s=%s: %v", r.name, r.value, err)
		}
	}
	if err := set(ctx, adm, "gone", "retention.ms", "1"); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Error(err)
	}
	for _, r := range []struct {
		name, value string
		code        *kerr.Error
		words       string
	}{
		{"log.dirs", "/tmp", kerr.InvalidRequest, "Cannot update these configs dynamically: [log.dirs]"},
		{"no.such", "1", kerr.InvalidConfig, "Unknown broker config name: no.such"},
		{"num.partitions", "0", kerr.InvalidConfig, "Value must be at least 1"},
	} {
		rs, err := adm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{change(r.name, r.value)}, 1)
		if err == nil {
			err = explain(rs[0])
		}
		if !errors.Is(err, r.code) || !strings.Contains(err.Error(), r.words) {
			t.Errorf("%s=%s: %v", r.name, r.value, err)
		}
	}
	rs, err := adm.ValidateAlterTopicConfigs(ctx, []kadm.AlterConfig{change("retention.ms", "77")}, "t")
	if err != nil || rs[0].Err != nil || *configOf(t, adm, "t", "retention.ms").Value != "604800000" {
		t.Error("validate:", rs, err)
	}
	// AlterConfigs replaces all.
	rs, err = adm.AlterTopicConfigsState(ctx, []kadm.AlterConfig{change("retention.bytes", "5")}, "t")
	if err != nil || rs[0].Err != nil {
		t.Fatal(rs, err)
	}
	if got := configOf(t, adm, "t", "min.compaction.lag.ms"); *got.Value != "0" {
		t.Errorf("%+v", got)
	}
}

// Defaults for new topics change while nodes run; a node tells its own values.
func TestBrokerConfigs(t *testing.T) {
	c := Start(t, 3, nil)
	client := c.Client()
	adm := kadm.NewClient(client)
	ctx := t.Context()
	for name, value := range map[string]string{
		"num.partitions": "5", "default.replication.factor": "2", "log.retention.hours": "2", "log.cleanup.policy": "compact",
	} {
		setAll(t, adm, name, value)
	}
	value := func(node int32, name string) (kadm.Config, bool) {
		rs, err := adm.DescribeBrokerConfigs(ctx, node)
		if err != nil || rs[0].Err != nil {
			t.Fatal(rs, err)
		}
		for _, c := range rs[0].Configs {
			if c.Key == name {
				return c, true
			}
		}
		return kadm.Config{}, false
	}
	for node := int32(1); node <= 3; node++ {
		testetcd.Eventually(t, "the nodes to know the defaults", func() bool {
			p, _ := value(node, "num.partitions")
			r, _ := value(node, "log.cleanup.policy")
			h, _ := value(node, "log.retention.hours")
			return *p.Value == "5" && p.Source.String() == "DYNAMIC_DEFAULT_BROKER_CONFIG" && *r.Value == "compact" && *h.Value == "2"
		})
	}
	made, err := adm.CreateTopic(ctx, -1, -1, nil, "t")
	if err != nil || made.NumPartitions != 5 || made.ReplicationFactor != 2 {
		t.Fatal(made, err)
	}
	if got := configOf(t, adm, "t", "retention.ms"); *got.Value != "7200000" {
		t.Errorf("%+v", got)
	}
	if got := configOf(t, adm, "t", "cleanup.policy"); *got.Value != "compact" {
		t.Errorf("%+v", got)
	}
	// One node's own value counts there, and there alone.
	rs, err := adm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{change("log.retention.ms", "3000")}, 2)
	if err != nil || rs[0].Err != nil {
		t.Fatal(rs, err)
	}
	if got, _ := value(2, "log.retention.ms"); *got.Value != "3000" || got.Source.String() != "DYNAMIC_BROKER_CONFIG" {
		t.Errorf("%+v", got)
	}
	if got, told := value(1, "log.retention.ms"); !told || got.Value != nil {
		t.Errorf("node 1 has node 2's: %+v", got)
	}
	if got, _ := value(3, "broker.id"); *got.Value != "3" || got.Source.String() != "STATIC_BROKER_CONFIG" {
		t.Errorf("%+v", got)
	}
	// Auto-creation is switched off while nodes run.
	setAll(t, adm, "auto.create.topics.enable", "false")
	testetcd.Eventually(t, "no topic to be made by asking", func() bool {
		name := fmt.Sprint("auto-", time.Now().UnixNano())
		err := client.ProduceSync(ctx, &kgo.Record{Topic: name, Value: []byte("v")}).FirstErr()
		return errors.Is(err, kerr.UnknownTopicOrPartition)
	})
}

// While etcd is away a change fails in time with an error that is worth a retry.
func TestAlterWithoutEtcd(t *testing.T) {
	c := Start(t, 1, nil)
	adm := kadm.NewClient(c.Client())
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "the topic", func() bool { _, err := adm.DescribeTopicConfigs(t.Context(), "t"); return err == nil })
	c.Etcd.Stop()
	if err := set(t.Context(), adm, "t", "retention.ms", "1"); !errors.Is(err, kerr.RequestTimedOut) {
		t.Error(err)
	}
	if got := configOf(t, adm, "t", "retention.ms"); *got.Value != "604800000" {
		t.Errorf("%+v", got)
	}
}
