package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// NewTopic is a topic to create.
type NewTopic struct {
	Name              string
	Partitions        int32
	ReplicationFactor int16
	Config            map[string]string
	Replicas          map[int32][]int32 // as in Topic
}

// CreateTopic makes one topic; see CreateTopics.
func (s *Store) CreateTopic(ctx context.Context, name string, partitions int32, rf int16, config map[string]string) (Topic, error) {
	made, errs, _ := s.CreateTopics(ctx, []NewTopic{{Name: name, Partitions: partitions, ReplicationFactor: rf, Config: config}})
	return made[0], errs[0]
}

// CreateTopics makes topics; the winner places their partitions soon after. It
// returns what was made and the errors, in the order of the topics, and the
// revision from which on a view contains them.
// Errors: ErrInvalidTopic, ErrInvalidPartitions, ErrInvalidReplicationFactor,
// ErrInvalidReplicas, ErrTopicExists (also for a name that differs only in '.'
// and '_'), ErrFrozen, ErrUnavailable. Whether enough nodes live for the
// replication factor is not checked here.
func (s *Store) CreateTopics(ctx context.Context, topics []NewTopic) ([]Topic, []error, int64) {
	made, edits := make([]Topic, len(topics)), make([]edit, len(topics))
	for i, n := range topics {
		e := &edits[i]
		e.key = s.keys.Topic(n.Name)
		value, err := s.newTopic(n, &made[i])
		e.next = func(kv *mvccpb.KeyValue) ([]clientv3.Op, error) {
			switch {
			case err != nil:
				return nil, err
			case kv != nil:
				return nil, ErrTopicExists
			}
			return []clientv3.Op{clientv3.OpPut(e.key, string(value))}, nil
		}
		e.err = err
	}
	rev := s.many(ctx, edits, s.collisions)
	for i := range made {
		made[i].CreateRevision, made[i].ModRevision = edits[i].rev, edits[i].rev
	}
	return made, wrapped(edits, "create topic", func(i int) string { return topics[i].Name }), rev
}

// Exists returns ErrTopicExists for the name of a topic that exists, and for one
// whose key is gone or makes no sense: then with what to do.
func (s *Store) Exists(topic string) error {
	if err := s.brokenTopic(topic); err != nil {
		return err
	}
	if _, exists := s.View().Topics[topic]; exists {
		return ErrTopicExists
	}
	return nil
}

func (s *Store) brokenTopic(name string) error {
	if why, broken := s.View().Broken["topics/"+name]; broken {
		return fmt.Errorf("%w: %s: %s; it must be mended: raftsman cluster restore-metadata", ErrTopicExists, s.keys.Topic(name), why)
	}
	return nil
}

// newTopic makes a topic's value.
func (s *Store) newTopic(n NewTopic, t *Topic) ([]byte, error) {
	if err := ValidateTopicName(n.Name); err != nil {
		return nil, err
	}
	if n.Partitions < 1 || n.Partitions > MaxPartitions {
		return nil, fmt.Errorf("%w: %d, from 1 to %d are allowed", ErrInvalidPartitions, n.Partitions, MaxPartitions)
	}
	if n.ReplicationFactor < 1 || n.ReplicationFactor > MaxReplicas {
		return nil, fmt.Errorf("%w: %d, from 1 to %d are allowed", ErrInvalidReplicationFactor, n.ReplicationFactor, MaxReplicas)
	}
	if err := s.brokenTopic(n.Name); err != nil {
		return nil, err
	}
	*t = Topic{ID: uuid.NewString(), Partitions: n.Partitions, ReplicationFactor: n.ReplicationFactor, Config: maps.Clone(n.Config), Replicas: n.Replicas}
	return encodeTopic(t)
}

// encodeTopic refuses what would not fit into etcd.
func encodeTopic(t *Topic) ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidReplicas, err)
	}
	value, err := Encode(t)
	if err == nil && len(value) > maxTxnBytes {
		return nil, fmt.Errorf("%w: the topic's key would have %d bytes, at most %d fit into etcd; place fewer partitions by hand", ErrInvalidReplicas, len(value), maxTxnBytes)
	}
	return value, err
}

// wrapped gives the errors of edits what was being done.
func wrapped(edits []edit, what string, name func(int) string) []error {
	errs := make([]error, len(edits))
	for i := range edits {
		if err := edits[i].err; err != nil {
			errs[i] = fmt.Errorf("%s %s: %w", what, name(i), err)
		}
	}
	return errs
}

// collisions refuses topics whose name collides with another's, and makes it a
// condition that no topic is created meanwhile when one could.
func (s *Store) collisions(ctx context.Context, edits []*edit) ([]clientv3.Cmp, error) {
	all := s.keys.Topic("")
	taken := map[string]string{}
	for _, e := range edits {
		name := e.key[len(all):]
		if e.err != nil || !collides(name) {
			continue
		}
		if other, is := taken[collisionKey(name)]; is && other != name {
			e.err = collision(other)
			continue
		}
		taken[collisionKey(name)] = name
	}
	if len(taken) == 0 {
		return nil, nil
	}
	cur, err := s.get(ctx, clientv3.OpGet(all, clientv3.WithPrefix(), clientv3.WithKeysOnly()))
	if err != nil {
		return nil, err
	}
	for _, kv := range cur.found[0].GetResponseRange().Kvs {
		other := string(kv.Key[len(all):])
		if name, is := taken[collisionKey(other)]; is && name != other {
			for _, e := range edits {
				if e.err == nil && collisionKey(e.key[len(all):]) == collisionKey(other) {
					e.err = collision(other)
				}
			}
		}
	}
	// And none was made since.
	return []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(all), "<", cur.revision+1).WithPrefix()}, nil
}

func collision(other string) error {
	return fmt.Errorf("%w: its name collides with that of topic %s ('.' and '_' count as one)", ErrTopicExists, other)
}

// collides says whether another name could collide with this one.
func collides(name string) bool {
	for i := range len(name) {
		if name[i] == '.' || name[i] == '_' {
			return true
		}
	}
	return false
}

// DeleteTopic removes one topic; see DeleteTopics.
func (s *Store) DeleteTopic(ctx context.Context, name string) error {
	errs, _ := s.DeleteTopics(ctx, []TopicName{{Name: name}})
	return errs[0]
}

// TopicName is a topic to change; with an ID, only if that is still its id.
type TopicName struct{ Name, ID string }

// DeleteTopics removes topics and leaves the tombstones that let nodes remove
// their data. It returns the errors in the order of the topics, and the revision
// from which on a view contains that. Errors: ErrTopicUnknown, ErrFrozen,
// ErrUnavailable.
func (s *Store) DeleteTopics(ctx context.Context, topics []TopicName) ([]error, int64) {
	edits := make([]edit, len(topics))
	for i, n := range topics {
		e := &edits[i]
		e.key = s.keys.Topic(n.Name)
		e.next = func(kv *mvccpb.KeyValue) ([]clientv3.Op, error) {
			t, err := n.decode(kv)
			if err != nil {
				return nil, err
			}
			tomb, err := Encode(Tombstone{Topic: n.Name, Deleted: s.now()})
			if err != nil {
				return nil, err
			}
			return []clientv3.Op{clientv3.OpDelete(e.key), clientv3.OpPut(s.keys.Deleted(t.ID), string(tomb))}, nil
		}
	}
	rev := s.many(ctx, edits, nil)
	return wrapped(edits, "delete topic", func(i int) string { return topics[i].Name }), rev
}

// decode reads the topic that is meant.
func (n TopicName) decode(kv *mvccpb.KeyValue) (Topic, error) {
	if kv == nil || ValidateTopicName(n.Name) != nil {
		return Topic{}, ErrTopicUnknown
	}
	t, err := decodeTopic(kv)
	if err == nil && n.ID != "" && t.ID != n.ID {
		return Topic{}, ErrTopicUnknown
	}
	return t, err
}

func decodeTopic(kv *mvccpb.KeyValue) (Topic, error) {
	t, err := decode(kv.Value, (*Topic).check)
	if err != nil {
		return t, fmt.Errorf("%w: %s makes no sense: %w", ErrUnavailable, kv.Key, err)
	}
	t.CreateRevision, t.ModRevision = kv.CreateRevision, kv.ModRevision
	return t, nil
}

// errUnchanged ends an edit that has nothing to do.
var errUnchanged = errors.New("nothing to change")

// EditTopics lets change alter a copy of each topic, by its place in the list,
// and stores it; nothing is lost of what others change meanwhile, since change
// is called again then. An error of change's is returned for that topic, which
// stays as it is. what is for errors. Errors else: ErrTopicUnknown,
// ErrInvalidReplicas, ErrFrozen, ErrUnavailable. The revision is that from which
// on a view contains all.
func (s *Store) EditTopics(ctx context.Context, what string, topics []TopicName, change func(i int, t *Topic) error) ([]error, int64) {
	edits := make([]edit, len(topics))
	for i, n := range topics {
		e := &edits[i]
		e.key = s.keys.Topic(n.Name)
		e.next = func(kv *mvccpb.KeyValue) ([]clientv3.Op, error) {
			t, err := n.decode(kv)
			if err != nil {
				return nil, err
			}
			if err := change(i, &t); err != nil {
				return nil, err
			}
			value, err := encodeTopic(&t)
			if err != nil || slices.Equal(value, kv.Value) {
				return nil, err
			}
			return []clientv3.Op{clientv3.OpPut(e.key, string(value))}, nil
		}
	}
	rev := s.many(ctx, edits, nil)
	return wrapped(edits, what, func(i int) string { return topics[i].Name }), rev
}

// Grow raises a topic's partitions to total, on chosen nodes where replicas names
// some for the new ones; nil leaves all to the winner. The error is an
// ErrInvalidPartitions when that is not more than it has.
func (t *Topic) Grow(total int32, replicas [][]int32) error {
	if total <= t.Partitions || total > MaxPartitions {
		return fmt.Errorf("%w: %d, it has %d and at most %d are allowed", ErrInvalidPartitions, total, t.Partitions, MaxPartitions)
	}
	if len(replicas) > 0 {
		t.Replicas = maps.Clone(t.Replicas)
		if t.Replicas == nil {
			t.Replicas = map[int32][]int32{}
		}
		for i, nodes := range replicas {
			t.Replicas[t.Partitions+int32(i)] = nodes
		}
	}
	t.Partitions = total
	return nil
}

// CreatePartitions raises a topic's number of partitions to total. Errors:
// ErrTopicUnknown, ErrInvalidPartitions when that is not more than it has,
// ErrFrozen, ErrUnavailable.
func (s *Store) CreatePartitions(ctx context.Context, name string, total int32) error {
	errs, _ := s.EditTopics(ctx, "add partitions to topic", []TopicName{{Name: name}}, func(_ int, t *Topic) error { return t.Grow(total, nil) })
	return errs[0]
}

// AlterTopicConfig lets change alter a copy of the topic's configuration, never
// nil, and stores it; an error of change's is returned and nothing is changed.
// It may be called again when somebody else was quicker. Errors else:
// ErrTopicUnknown, ErrFrozen, ErrUnavailable.
func (s *Store) AlterTopicConfig(ctx context.Context, name string, change func(config map[string]string) error) error {
	errs, _ := s.EditTopics(ctx, "alter topic", []TopicName{{Name: name}}, func(_ int, t *Topic) error {
		if t.Config == nil {
			t.Config = map[string]string{}
		}
		return change(t.Config)
	})
	return errs[0]
}
