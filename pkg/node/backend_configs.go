package node

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/config"
	"github.com/raftsman/raftsman/internal/kafka"
)

// configs are the layers of this node's configuration in a view.
func (b backend) configs(v *cluster.View) config.Brokers {
	return brokerConfigs(v, b.n.ID(), b.n.replicas.static)
}

// Defaults implements kafka.Administration.
func (b backend) Defaults() kafka.Defaults {
	brokers := b.configs(b.n.store.View())
	value := func(name string) config.Entry {
		e, _ := brokers.Broker(name)
		return e
	}
	d := kafka.Defaults{
		AutoCreate: config.Bool(value("auto.create.topics.enable").Value),
		Partitions: int32(config.Number(value("num.partitions").Value)),
	}
	if rf := value("default.replication.factor"); rf.Source != config.Default {
		d.ReplicationFactor = int16(config.Number(rf.Value))
	} // else it is decided when a topic is created, by the number of nodes
	return d
}

// topicEntries are all configurations of a topic with the given settings.
func (b backend) topicEntries(v *cluster.View, set map[string]string) []config.Entry {
	brokers := b.configs(v)
	entries := make([]config.Entry, 0, len(config.TopicNames()))
	for _, name := range config.TopicNames() {
		e, _ := brokers.Topic(set, name)
		entries = append(entries, e)
	}
	return entries
}

// DescribeConfigs implements kafka.Administration.
func (b backend) DescribeConfigs(r kafka.ConfigResource) ([]config.Entry, error) {
	v := b.n.store.View()
	if r.Type == kafka.ConfigTopic {
		t, ok := v.Topics[r.Name]
		if !ok {
			return nil, kerr.UnknownTopicOrPartition
		}
		return b.topicEntries(v, t.Config), nil
	}
	if r.Name == "" {
		return allBrokersEntries(v), nil
	}
	facts := b.facts(v)
	brokers := append(b.configs(v), config.Layer{Source: config.StaticBroker, Values: facts})
	entries := make([]config.Entry, 0, len(config.BrokerNames()))
	for _, name := range config.BrokerNames() {
		if e, ok := brokers.Broker(name); ok {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// allBrokersEntries is what was set for all brokers, and nothing else, as in
// Kafka.
func allBrokersEntries(v *cluster.View) []config.Entry {
	var entries []config.Entry
	set := v.Configs[0].Config
	for _, name := range config.BrokerNames() {
		value, ok := set[name]
		if !ok {
			continue
		}
		d, _ := config.Broker(name)
		entries = append(entries, config.Entry{Def: d, Value: value, Source: config.DynamicDefaultBroker,
			Synonyms: []config.Value{{Name: name, Value: value, Source: config.DynamicDefaultBroker}}})
	}
	return entries
}

// facts are this node's broker configurations that nobody alters.
func (b backend) facts(v *cluster.View) map[string]string {
	n := b.n
	id := strconv.Itoa(int(n.ID()))
	var listen, advertise []string
	for _, l := range n.kafkaLns {
		name := strings.ToUpper(l.Name)
		listen = append(listen, name+"://"+l.Net.Addr().String())
		advertise = append(advertise, name+"://"+l.Advertised)
	}
	facts := map[string]string{
		"broker.id": id, "node.id": id, "log.dir": n.cfg.DataDir, "log.dirs": n.cfg.DataDir,
		"listeners": strings.Join(listen, ","), "advertised.listeners": strings.Join(advertise, ","),
	}
	if n.cfg.Rack != "" {
		facts["broker.rack"] = n.cfg.Rack
	}
	return facts
}

// AlterConfigs implements kafka.Administration.
func (b backend) AlterConfigs(ctx context.Context, changes []kafka.ConfigChange, validateOnly bool) []error {
	errs := make([]error, len(changes))
	var names []cluster.TopicName
	var at []int
	for i, c := range changes {
		switch {
		case c.Resource.Type != kafka.ConfigTopic:
			errs[i] = b.alterBroker(ctx, c, validateOnly)
		case validateOnly:
			errs[i] = b.checkTopicChange(c)
		default:
			names, at = append(names, cluster.TopicName{Name: c.Resource.Name}), append(at, i)
		}
	}
	if len(names) == 0 {
		return errs
	}
	brokers := b.configs(b.n.store.View())
	stored, rev := b.n.store.EditTopics(ctx, "alter topic", names, func(j int, t *cluster.Topic) error {
		return alterTopic(brokers, t, changes[at[j]].Change)
	})
	for j, i := range at {
		errs[i] = b.alterError(stored[j])
	}
	b.see(ctx, rev)
	return errs
}

// checkTopicChange says whether a topic could be altered so.
func (b backend) checkTopicChange(c kafka.ConfigChange) error {
	v := b.n.store.View()
	t, ok := v.Topics[c.Resource.Name]
	if !ok {
		return kerr.UnknownTopicOrPartition
	}
	return b.alterError(alterTopic(b.configs(v), &t, c.Change))
}

// alterTopic changes a topic's configuration, which is a copy.
func alterTopic(brokers config.Brokers, t *cluster.Topic, c config.Change) error {
	next, err := brokers.AlterTopic(t.Config, c)
	if err == nil {
		err = checkMinInSync(next, t.ReplicationFactor)
	}
	t.Config = next
	return err
}

// alterBroker changes what is set for this node, or for all of them.
func (b backend) alterBroker(ctx context.Context, c kafka.ConfigChange, validateOnly bool) error {
	if fixed := c.ReadOnly(); len(fixed) > 0 {
		return kafka.Errorf(kerr.InvalidRequest, "Cannot update these configs dynamically: [%s]", strings.Join(fixed, ", "))
	}
	v := b.n.store.View()
	node, source := int32(0), config.DynamicDefaultBroker
	if c.Resource.Name != "" {
		node, source = b.n.ID(), config.DynamicBroker
	}
	brokers := b.configs(v)
	alter := func(set map[string]string) (map[string]string, error) {
		next, err := brokers.AlterBroker(set, c.Change)
		if err == nil {
			err = brokers.With(source, next).CheckBroker()
		}
		return next, err
	}
	if validateOnly {
		_, err := alter(v.Configs[node].Config)
		return b.alterError(err)
	}
	rev, err := b.n.store.EditBrokerConfig(ctx, node, alter)
	b.see(ctx, rev)
	return b.alterError(err)
}

// alterError gives an error of a change of configurations its Kafka code.
func (b backend) alterError(err error) error {
	var bad config.Invalid
	if errors.As(err, &bad) {
		return configError(bad)
	}
	return b.clusterError(err)
}

func configError(err error) error { return kafka.Errorf(kerr.InvalidConfig, "%s", err.Error()) }
