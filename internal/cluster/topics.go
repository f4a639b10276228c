package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// CreateTopic makes a topic; the winner places its partitions soon after.
// Errors: ErrInvalidTopic, ErrInvalidPartitions, ErrInvalidReplicationFactor,
// ErrTopicExists (also for a name that differs only in '.' and '_'), ErrFrozen,
// ErrUnavailable. Whether enough nodes live for the replication factor is not
// checked here.
func (s *Store) CreateTopic(ctx context.Context, name string, partitions int32, rf int16, config map[string]string) (Topic, error) {
	if err := ValidateTopicName(name); err != nil {
		return Topic{}, err
	}
	if partitions < 1 || partitions > MaxPartitions {
		return Topic{}, fmt.Errorf("create topic %s: %w: %d, from 1 to %d are allowed", name, ErrInvalidPartitions, partitions, MaxPartitions)
	}
	if rf < 1 || rf > MaxReplicas {
		return Topic{}, fmt.Errorf("create topic %s: %w: %d, from 1 to %d are allowed", name, ErrInvalidReplicationFactor, rf, MaxReplicas)
	}
	t := Topic{ID: uuid.NewString(), Partitions: partitions, ReplicationFactor: rf, Config: maps.Clone(config)}
	value, err := Encode(t)
	if err != nil {
		return Topic{}, err
	}
	if why, broken := s.View().Broken["topics/"+name]; broken {
		return Topic{}, fmt.Errorf("create topic %s: %w: %s: %s; it must be mended: raftsman cluster restore-metadata", name, ErrTopicExists, s.keys.Topic(name), why)
	}
	rev, err := s.createTopic(ctx, name, value)
	if err != nil {
		return Topic{}, fmt.Errorf("create topic %s: %w", name, err)
	}
	t.CreateRevision, t.ModRevision = rev, rev
	return t, nil
}

func (s *Store) createTopic(ctx context.Context, name string, value []byte) (int64, error) {
	key := s.keys.Topic(name)
	for {
		cmps := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}
		if collides(name) {
			all := s.keys.Topic("")
			cur, err := s.get(ctx, clientv3.OpGet(all, clientv3.WithPrefix(), clientv3.WithKeysOnly()))
			if err != nil {
				return 0, err
			}
			for _, kv := range cur.found[0].GetResponseRange().Kvs {
				other := string(kv.Key[len(all):])
				if other != name && collisionKey(other) == collisionKey(name) {
					return 0, fmt.Errorf("%w: its name collides with that of topic %s ('.' and '_' count as one)", ErrTopicExists, other)
				}
			}
			// And none was made since.
			cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(all), "<", cur.revision+1).WithPrefix())
		}
		res, err := s.txn(ctx, cmps, []clientv3.Op{clientv3.OpPut(key, string(value))}, []clientv3.Op{clientv3.OpGet(key)})
		switch {
		case err != nil:
			return 0, err
		case res.ok:
			return res.revision, nil
		case res.first(0) != nil:
			return 0, ErrTopicExists
		}
	}
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

// DeleteTopic removes a topic and leaves the tombstone that lets nodes remove
// its data. Errors: ErrTopicUnknown, ErrFrozen, ErrUnavailable.
func (s *Store) DeleteTopic(ctx context.Context, name string) error {
	key := s.keys.Topic(name)
	fail := func(err error) error { return fmt.Errorf("delete topic %s: %w", name, err) }
	if err := ValidateTopicName(name); err != nil {
		return fail(ErrTopicUnknown)
	}
	cur, err := s.get(ctx, clientv3.OpGet(key))
	for {
		if err != nil {
			return fail(err)
		}
		kv := cur.first(0)
		if kv == nil {
			return fail(ErrTopicUnknown)
		}
		t, derr := decodeTopic(kv)
		if derr != nil {
			return fail(derr)
		}
		tomb, eerr := Encode(Tombstone{Topic: name, Deleted: s.now()})
		if eerr != nil {
			return fail(eerr)
		}
		cur, err = s.txn(ctx,
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)},
			[]clientv3.Op{clientv3.OpDelete(key), clientv3.OpPut(s.keys.Deleted(t.ID), string(tomb))},
			[]clientv3.Op{clientv3.OpGet(key)})
		if err == nil && cur.ok {
			return nil
		}
	}
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

// editTopic rewrites a topic by compare-and-swap.
func (s *Store) editTopic(ctx context.Context, name string, edit func(*Topic) error) error {
	if ValidateTopicName(name) != nil {
		return ErrTopicUnknown
	}
	err := s.swap(ctx, s.keys.Topic(name), nil, func(kv *mvccpb.KeyValue, _ result) ([]byte, error) {
		if kv == nil {
			return nil, ErrTopicUnknown
		}
		t, err := decodeTopic(kv)
		if err != nil {
			return nil, err
		}
		if err := edit(&t); err != nil {
			return nil, err
		}
		return Encode(t)
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// CreatePartitions raises a topic's number of partitions to total. Errors:
// ErrTopicUnknown, ErrInvalidPartitions when that is not more than it has,
// ErrFrozen, ErrUnavailable.
func (s *Store) CreatePartitions(ctx context.Context, name string, total int32) error {
	err := s.editTopic(ctx, name, func(t *Topic) error {
		if total <= t.Partitions || total > MaxPartitions {
			return fmt.Errorf("%w: %d, it has %d and at most %d are allowed", ErrInvalidPartitions, total, t.Partitions, MaxPartitions)
		}
		t.Partitions = total
		return nil
	})
	if err != nil {
		return fmt.Errorf("add partitions to topic %s: %w", name, err)
	}
	return nil
}

// AlterTopicConfig lets edit change a copy of the topic's configuration, never
// nil, and stores it; an error of edit's is returned and nothing is changed.
// edit may be called again when somebody else was quicker. Errors else:
// ErrTopicUnknown, ErrFrozen, ErrUnavailable.
func (s *Store) AlterTopicConfig(ctx context.Context, name string, edit func(config map[string]string) error) error {
	err := s.editTopic(ctx, name, func(t *Topic) error {
		before := maps.Clone(t.Config)
		if t.Config == nil {
			t.Config = map[string]string{}
		}
		if err := edit(t.Config); err != nil {
			return err
		}
		if maps.Equal(before, t.Config) {
			return errUnchanged
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("alter topic %s: %w", name, err)
	}
	return nil
}
