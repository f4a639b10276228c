package cluster_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// Many topics at a time: each has its own verdict, in as many transactions as
// etcd's limits ask for, and one that can't be does not keep the others back.
func TestManyTopics(t *testing.T) {
	t.Parallel()
	const n = 300 // more than one transaction takes
	s := made(t, testetcd.Start(t).Client(t), "")
	ctx := t.Context()
	if _, err := s.CreateTopic(ctx, "t.5", 1, 1, nil); err != nil {
		t.Fatal(err)
	}
	topics := make([]cluster.NewTopic, n)
	for i := range topics {
		topics[i] = cluster.NewTopic{Name: fmt.Sprint("t-", i), Partitions: 1, ReplicationFactor: 1}
	}
	topics[7].Name = "a/b"
	topics[8].Partitions = 0
	topics[9].Name = "t_5"                              // collides with one that is there
	topics[10].Name, topics[11].Name = "x.y.z", "x.y_z" // and these with each other
	topics[12].Replicas = map[int32][]int32{0: {1, 1}}
	topics[13].Name = "t.5"
	created, errs, rev := s.CreateTopics(ctx, topics)
	want := map[int]error{7: cluster.ErrInvalidTopic, 8: cluster.ErrInvalidPartitions, 9: cluster.ErrTopicExists, 11: cluster.ErrTopicExists,
		12: cluster.ErrInvalidReplicas, 13: cluster.ErrTopicExists}
	for i, err := range errs {
		if !errors.Is(err, want[i]) || (err == nil) != (want[i] == nil) || (created[i].CreateRevision > 0) != (err == nil) {
			t.Errorf("topic %d: %v, want %v, made %+v", i, err, want[i], created[i])
		}
	}
	v := s.sees(t, "the topics", func(v *cluster.View) bool { return v.Revision >= rev })
	if len(v.Topics) != n+1-len(want) {
		t.Errorf("%d topics", len(v.Topics))
	}

	names := make([]cluster.TopicName, n)
	for i := range names {
		names[i] = cluster.TopicName{Name: topics[i].Name, ID: created[i].ID}
	}
	refusal := errors.New("not this one")
	errs, rev = s.EditTopics(ctx, "alter topic", names, func(i int, topic *cluster.Topic) error {
		if i == 20 {
			return refusal
		}
		topic.Config = map[string]string{"i": fmt.Sprint(i)}
		return nil
	})
	v = s.sees(t, "the changes", func(v *cluster.View) bool { return v.Revision >= rev })
	for i, err := range errs {
		switch {
		case i == 20 && !errors.Is(err, refusal), i == 13 && !errors.Is(err, cluster.ErrTopicUnknown), i == 7 && !errors.Is(err, cluster.ErrTopicUnknown):
			t.Errorf("topic %d: %v", i, err)
		case i > 20 && (err != nil || v.Topics[names[i].Name].Config["i"] != fmt.Sprint(i)):
			t.Errorf("topic %d: %v, %+v", i, err, v.Topics[names[i].Name])
		}
	}
	if v.Topics["t.5"].Config != nil {
		t.Error("another topic of the same name was altered")
	}

	errs, rev = s.DeleteTopics(ctx, names)
	v = s.sees(t, "the deletions", func(v *cluster.View) bool { return v.Revision >= rev })
	if len(v.Topics) != 1 || len(v.Deleted) != n-len(want) || errs[299] != nil || !errors.Is(errs[13], cluster.ErrTopicUnknown) {
		t.Errorf("%d topics, %d tombstones, %v, %v", len(v.Topics), len(v.Deleted), errs[299], errs[13])
	}
}

// Values that together exceed a transaction are written in several; one that
// alone does is refused.
func TestManyLargeTopics(t *testing.T) {
	t.Parallel()
	s := made(t, testetcd.Start(t).Client(t), "")
	placed := func(partitions int32) cluster.NewTopic {
		n := cluster.NewTopic{Partitions: partitions, ReplicationFactor: 3, Replicas: map[int32][]int32{}}
		for p := range partitions {
			n.Replicas[p] = []int32{1000000001, 1000000002, 1000000003}
		}
		return n
	}
	topics := []cluster.NewTopic{placed(10_000), placed(10_000), placed(10_000), placed(10_000), placed(40_000)}
	for i := range topics {
		topics[i].Name = fmt.Sprint("t", i)
	}
	_, errs, _ := s.CreateTopics(t.Context(), topics)
	for i, err := range errs {
		if (err != nil) != (i == 4) {
			t.Errorf("topic %d: %v", i, err)
		}
	}
	if !errors.Is(errs[4], cluster.ErrInvalidReplicas) || !strings.Contains(errs[4].Error(), "fit into etcd") {
		t.Error(errs[4])
	}
}

// Those who change the same topics at the same time all get their way.
func TestManyAtTheSameTime(t *testing.T) {
	t.Parallel()
	const topics, clients = 50, 6
	c := testetcd.Start(t).Client(t)
	s := made(t, c, "")
	names := make([]cluster.TopicName, topics)
	fresh := make([]cluster.NewTopic, topics)
	for i := range names {
		names[i].Name = fmt.Sprint("t", i)
		fresh[i] = cluster.NewTopic{Name: names[i].Name, Partitions: 1, ReplicationFactor: 1}
	}
	if _, errs, _ := s.CreateTopics(t.Context(), fresh); errors.Join(errs...) != nil {
		t.Fatal(errs)
	}
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			errs, _ := s.EditTopics(t.Context(), "alter topic", names, func(i int, topic *cluster.Topic) error {
				if topic.Config == nil {
					topic.Config = map[string]string{}
				}
				topic.Config[fmt.Sprint(client)] = "was here"
				return nil
			})
			if err := errors.Join(errs...); err != nil {
				t.Error(err)
			}
			if _, err := s.EditBrokerConfig(t.Context(), 0, func(set map[string]string) (map[string]string, error) {
				next := map[string]string{fmt.Sprint(client): "was here"}
				for k, v := range set {
					next[k] = v
				}
				return next, nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.sees(t, "every change", func(v *cluster.View) bool {
		for _, topic := range v.Topics {
			if len(topic.Config) != clients {
				return false
			}
		}
		return len(v.Topics) == topics && len(v.Configs[0].Config) == clients
	})
}
