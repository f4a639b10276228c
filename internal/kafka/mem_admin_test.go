package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/config"
)

// memAdmin is what a memBackend's administration has beside topics. Its fields
// are under memBackend.mu.
type memAdmin struct {
	defaults Defaults
	all, own map[string]string // what was set for all brokers, and for this one
	moving   []Moving
	elected  []TopicPartition
	absent   []Broker
	held     chan struct{} // creations of topics wait for its end; nil: they don't
}

func newMemAdmin() memAdmin {
	return memAdmin{defaults: Defaults{AutoCreate: true, Partitions: 2, ReplicationFactor: 1}}
}

func (b *memBackend) layersLocked() config.Brokers {
	return config.Brokers{{Source: config.DynamicBroker, Values: b.own}, {Source: config.DynamicDefaultBroker, Values: b.all}}
}

func (b *memBackend) Defaults() Defaults {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.defaults
}

func (b *memBackend) setDefaults(d Defaults) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.defaults = d
}

// holdCreations has creations of topics wait until release is called.
func (b *memBackend) holdCreations() (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	held := make(chan struct{})
	b.held = held
	return func() { close(held) }
}

// fail has creations and other admin calls fail.
func (b *memBackend) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failWith = err
}

func (b *memBackend) CreateTopics(ctx context.Context, specs []CreateTopicSpec) []CreatedTopic {
	b.mu.Lock()
	if held := b.held; held != nil {
		b.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
		}
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	made := make([]CreatedTopic, len(specs))
	for i, spec := range specs {
		made[i] = b.createLocked(spec)
	}
	return made
}

func (b *memBackend) createLocked(spec CreateTopicSpec) CreatedTopic {
	if b.failWith != nil {
		return CreatedTopic{Err: b.failWith}
	}
	if _, ok := b.topics[spec.Name]; ok {
		return CreatedTopic{Err: Errorf(kerr.TopicAlreadyExists, "Topic '%s' already exists.", spec.Name)}
	}
	if len(b.topics) >= 3000 || spec.Partitions > 1000 {
		return CreatedTopic{Err: Errorf(kerr.InvalidPartitions, "too many")}
	}
	if err := b.layersLocked().CheckTopic(spec.Config); err != nil {
		return CreatedTopic{Err: Errorf(kerr.InvalidConfig, "%s", err.Error())}
	}
	b.nextID++
	t := &memTopic{info: TopicInfo{Name: spec.Name, ID: [16]byte{14: byte(b.nextID >> 8), 15: byte(b.nextID)}, Config: spec.Config}}
	b.growLocked(t, int(spec.Partitions))
	for i, replicas := range spec.Assignments {
		t.info.Partitions[i].Replicas = replicas
	}
	if !spec.ValidateOnly {
		b.topics[spec.Name] = t
		b.bumpLocked()
	}
	return CreatedTopic{Info: t.info, ReplicationFactor: spec.ReplicationFactor, Configs: b.entriesLocked(spec.Config)}
}

func (b *memBackend) entriesLocked(set map[string]string) (entries []config.Entry) {
	for _, name := range config.TopicNames() {
		e, _ := b.layersLocked().Topic(set, name)
		entries = append(entries, e)
	}
	return entries
}

func (b *memBackend) DeleteTopics(_ context.Context, topics []TopicInfo) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	errs := make([]error, len(topics))
	for i, t := range topics {
		if _, ok := b.topics[t.Name]; !ok {
			errs[i] = kerr.UnknownTopicOrPartition
			continue
		}
		delete(b.topics, t.Name)
		b.bumpLocked()
	}
	return errs
}

func (b *memBackend) CreatePartitions(_ context.Context, specs []CreatePartitionsSpec, validateOnly bool) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	errs := make([]error, len(specs))
	for i, s := range specs {
		if s.Count > 1000 {
			errs[i] = Errorf(kerr.InvalidPartitions, "too many")
		} else if !validateOnly {
			b.growLocked(b.topics[s.Topic], int(s.Count))
			b.bumpLocked()
		}
	}
	return errs
}

func (b *memBackend) DescribeConfigs(r ConfigResource) (entries []config.Entry, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Type == ConfigTopic {
		return b.entriesLocked(b.topics[r.Name].info.Config), nil
	}
	for _, name := range config.BrokerNames() {
		if e, ok := b.layersLocked().Broker(name); ok {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

func (b *memBackend) AlterConfigs(_ context.Context, changes []ConfigChange, validateOnly bool) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	errs := make([]error, len(changes))
	for i, c := range changes {
		if b.failWith != nil {
			errs[i] = b.failWith
			continue
		}
		errs[i] = b.alterLocked(c, validateOnly)
	}
	return errs
}

func (b *memBackend) alterLocked(c ConfigChange, validateOnly bool) error {
	set := &b.all
	alter := b.layersLocked().AlterBroker
	switch {
	case c.Resource.Type == ConfigTopic:
		set, alter = &b.topics[c.Resource.Name].info.Config, b.layersLocked().AlterTopic
	case c.Resource.Name != "":
		set = &b.own
	}
	next, err := alter(*set, c.Change)
	if err != nil {
		return Errorf(kerr.InvalidConfig, "%s", err.Error())
	}
	if !validateOnly {
		*set = next
	}
	return nil
}

func (b *memBackend) LogDirs() []LogDir {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := LogDir{Path: "/data", Total: 1000, Usable: 400}
	for name, t := range b.topics {
		for i := range t.parts {
			d.Replicas = append(d.Replicas, LogDirReplica{TopicPartition{name, int32(i)}, 7, 0})
		}
	}
	return []LogDir{d}
}

func (b *memBackend) Absent(string) []Broker {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.absent
}

func (b *memBackend) Reassign(_ context.Context, wanted []Reassignment) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	errs := make([]error, len(wanted))
	for i, w := range wanted {
		at := slices.IndexFunc(b.moving, func(m Moving) bool { return m.TopicPartition == w.TopicPartition })
		switch {
		case w.Replicas == nil && at < 0:
			errs[i] = kerr.NoReassignmentInProgress
		case w.Replicas == nil:
			b.moving = slices.Delete(b.moving, at, at+1)
		default:
			b.moving = append(b.moving, Moving{w.TopicPartition, append([]int32{1}, w.Replicas...), w.Replicas, []int32{1}})
		}
	}
	return errs
}

func (b *memBackend) Reassignments() []Moving {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.moving)
}

func (b *memBackend) ElectLeaders(_ context.Context, partitions []TopicPartition) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.elected = append(b.elected, partitions...)
	return make([]error, len(partitions))
}

func (b *memBackend) electedNow() []TopicPartition {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.elected)
}

func (p *memPartition) DeleteRecords(_ context.Context, offset int64) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deposed {
		return -1, kerr.NotLeaderForPartition
	}
	if offset == -1 {
		offset = p.next
	}
	if offset > p.next {
		return -1, kerr.OffsetOutOfRange
	}
	p.start = max(p.start, offset)
	return p.start, nil
}

func (p *memPartition) Producers() ([]ProducerInfo, error) {
	if _, leading := p.Offsets(); !leading {
		return nil, kerr.NotLeaderForPartition
	}
	return []ProducerInfo{{ID: 9, Epoch: 2, LastSequence: 41, LastTime: 1_700_000_000_000}}, nil
}
