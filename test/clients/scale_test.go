package clients

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// scaleAdmin is an admin client at work on many topics and groups.
type scaleAdmin interface {
	create(ctx context.Context, topics []string) error
	describe(ctx context.Context, topics []string) error // that all have a leader
	alter(ctx context.Context, topics []string, retention string) error
	retention(ctx context.Context, topics []string) (map[string]string, error)
	remove(ctx context.Context, topics []string) error

	commit(ctx context.Context, group, topic string, offset int64) error
	listGroups(ctx context.Context) (map[string]bool, error)
	describeGroups(ctx context.Context, groups []string) error // that all are empty
	committed(ctx context.Context, group, topic string) (int64, error)
	removeGroups(ctx context.Context, groups []string) error
}

// TestScale has two clients create, describe, alter and delete topics, and list,
// describe and delete groups with committed offsets, each what the other has made
// too. RAFTSMAN_TOPICS (2000 is the full size) and RAFTSMAN_GROUPS (1000) say how
// many; it prints how long each call took. Topics have one replica: what replicas
// cost is not what this is about.
func TestScale(t *testing.T) {
	topics, groups := names("topic", "RAFTSMAN_TOPICS", 200), names("group", "RAFTSMAN_GROUPS", 100)
	c := startCluster(t)
	rd, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": c.kafka[0]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.kafka...), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	fr := kadm.NewClient(cl)
	fr.SetTimeoutMillis(120_000)
	clients := []struct {
		name string
		scaleAdmin
	}{{"franz-go", franzScale{fr}}, {"librdkafka", rdScale{rd}}}
	ctx := t.Context()
	step := func(client, what string, n int, do func() error) {
		t.Helper()
		began := time.Now()
		if err := do(); err != nil {
			t.Fatalf("%s: %s: %v", client, what, err)
		}
		t.Logf("%-10s %s %d: %v", client, what, n, time.Since(began).Round(time.Millisecond))
	}
	for i, one := range clients {
		half := topics[i*len(topics)/2 : (i+1)*len(topics)/2]
		step(one.name, "create topics", len(half), func() error { return one.create(ctx, half) })
	}
	for i, one := range clients {
		step(one.name, "describe topics", len(topics), func() error {
			return until(ctx, func() error { return one.describe(ctx, topics) })
		})
		value := fmt.Sprint(1_000_000 + i)
		step(one.name, "alter topics", len(topics), func() error { return one.alter(ctx, topics, value) })
		step(one.name, "describe configurations", len(topics), func() error {
			return until(ctx, func() error {
				got, err := one.retention(ctx, topics)
				for _, name := range topics {
					if err == nil && got[name] != value {
						err = fmt.Errorf("retention.ms of %s is %q, want %s", name, got[name], value)
					}
				}
				return err
			})
		})
	}
	for i, one := range clients {
		half := groups[i*len(groups)/2 : (i+1)*len(groups)/2]
		step(one.name, "commit offsets of groups", len(half), func() error {
			return eachAtOnce(half, func(g string) error { return one.commit(ctx, g, topics[0], int64(len(g))) })
		})
	}
	for _, one := range clients {
		step(one.name, "list groups", len(groups), func() error {
			got, err := one.listGroups(ctx)
			for _, g := range groups {
				if err == nil && !got[g] {
					err = fmt.Errorf("%s is missing", g)
				}
			}
			return err
		})
		step(one.name, "describe groups", len(groups), func() error { return one.describeGroups(ctx, groups) })
		step(one.name, "read offsets of groups", len(groups), func() error {
			return eachAtOnce(groups, func(g string) error {
				at, err := one.committed(ctx, g, topics[0])
				if err == nil && at != int64(len(g)) {
					err = fmt.Errorf("%s has committed %d, want %d", g, at, len(g))
				}
				return err
			})
		})
	}
	for i, one := range clients {
		half := groups[i*len(groups)/2 : (i+1)*len(groups)/2]
		step(one.name, "delete groups", len(half), func() error { return one.removeGroups(ctx, half) })
	}
	for i, one := range clients {
		half := topics[i*len(topics)/2 : (i+1)*len(topics)/2]
		step(one.name, "delete topics", len(half), func() error { return one.remove(ctx, half) })
	}
	for _, one := range clients {
		waitFor(t, one.name+" to list no group", time.Minute, func() error {
			got, err := one.listGroups(ctx)
			if err == nil && len(got) > 0 {
				err = fmt.Errorf("%d groups are left", len(got))
			}
			return err
		})
	}
	waitFor(t, "no topic to be left", time.Minute, func() error {
		got, err := fr.ListTopics(ctx)
		if err == nil && len(got) > 0 {
			err = fmt.Errorf("%d topics are left", len(got))
		}
		return err
	})
}

// names are as many as an environment variable says.
func names(what, env string, n int) (out []string) {
	if most, err := strconv.Atoi(os.Getenv(env)); err == nil && most >= 2 {
		n = most
	}
	for i := range n {
		out = append(out, fmt.Sprintf("scale.%s.%04d", what, i))
	}
	return out
}

// eachAtOnce calls do for all, some at once, and returns the first error.
func eachAtOnce(all []string, do func(string) error) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
		next  = make(chan string)
	)
	for range 16 {
		wg.Go(func() {
			for one := range next {
				if err := do(one); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	for _, one := range all {
		next <- one
	}
	close(next)
	wg.Wait()
	return first
}

type franzScale struct{ *kadm.Client }

func (f franzScale) create(ctx context.Context, topics []string) error {
	rs, err := f.CreateTopics(ctx, 1, 1, nil, topics...)
	if err == nil {
		err = rs.Error()
	}
	return err
}

func (f franzScale) describe(ctx context.Context, topics []string) error {
	rs, err := f.ListTopics(ctx, topics...)
	for _, name := range topics {
		if p := rs[name].Partitions[0]; err == nil && (rs[name].Err != nil || p.Err != nil || p.Leader < 0 || len(p.Replicas) != 1) {
			err = fmt.Errorf("%s: %v, %+v", name, rs[name].Err, p)
		}
	}
	return err
}

func (f franzScale) alter(ctx context.Context, topics []string, retention string) error {
	rs, err := f.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &retention}}, topics...)
	for _, r := range rs {
		if err == nil {
			err = r.Err
		}
	}
	return err
}

func (f franzScale) retention(ctx context.Context, topics []string) (map[string]string, error) {
	rs, err := f.DescribeTopicConfigs(ctx, topics...)
	got := make(map[string]string)
	for _, r := range rs {
		if err == nil {
			err = r.Err
		}
		for _, c := range r.Configs {
			if c.Key == "retention.ms" {
				got[r.Name] = c.MaybeValue()
			}
		}
	}
	return got, err
}

func (f franzScale) remove(ctx context.Context, topics []string) error {
	rs, err := f.DeleteTopics(ctx, topics...)
	if err == nil {
		err = rs.Error()
	}
	return err
}

func (f franzScale) commit(ctx context.Context, group, topic string, offset int64) error {
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: topic, At: offset, LeaderEpoch: -1})
	return f.CommitAllOffsets(ctx, group, os)
}

func (f franzScale) listGroups(ctx context.Context) (map[string]bool, error) {
	rs, err := f.ListGroups(ctx)
	got := make(map[string]bool)
	for _, name := range rs.Groups() {
		got[name] = true
	}
	return got, err
}

func (f franzScale) describeGroups(ctx context.Context, groups []string) error {
	rs, err := f.DescribeGroups(ctx, groups...)
	for _, name := range groups {
		if g := rs[name]; err == nil && (g.Err != nil || g.State != "Empty") {
			err = fmt.Errorf("%s: %v, %q", name, g.Err, g.State)
		}
	}
	return err
}

func (f franzScale) committed(ctx context.Context, group, topic string) (int64, error) {
	rs, err := f.FetchOffsets(ctx, group)
	if err == nil {
		err = rs.Error()
	}
	o, _ := rs.Lookup(topic, 0)
	return o.At, err
}

func (f franzScale) removeGroups(ctx context.Context, groups []string) error {
	rs, err := f.DeleteGroups(ctx, groups...)
	if err == nil {
		err = rs.Error()
	}
	return err
}

type rdScale struct{ *kafka.AdminClient }

const rdPatience = 2 * time.Minute

// rdError is the first error of a call and of what it answers, none being one too.
func rdError(err error, each ...kafka.Error) error {
	for _, e := range each {
		if err == nil && e.Code() != kafka.ErrNoError {
			err = e
		}
	}
	return err
}

func (r rdScale) create(ctx context.Context, topics []string) error {
	specs := make([]kafka.TopicSpecification, len(topics))
	for i, name := range topics {
		specs[i] = kafka.TopicSpecification{Topic: name, NumPartitions: 1, ReplicationFactor: 1}
	}
	rs, err := r.CreateTopics(ctx, specs, kafka.SetAdminRequestTimeout(rdPatience), kafka.SetAdminOperationTimeout(rdPatience))
	for _, one := range rs {
		err = rdError(err, one.Error)
	}
	return err
}

func (r rdScale) describe(ctx context.Context, topics []string) error {
	rs, err := r.DescribeTopics(ctx, kafka.NewTopicCollectionOfTopicNames(topics), kafka.SetAdminRequestTimeout(rdPatience))
	if err == nil && len(rs.TopicDescriptions) != len(topics) {
		err = fmt.Errorf("%d topics", len(rs.TopicDescriptions))
	}
	for _, one := range rs.TopicDescriptions {
		if err = rdError(err, one.Error); err == nil && (len(one.Partitions) != 1 || one.Partitions[0].Leader == nil || len(one.Partitions[0].Replicas) != 1) {
			err = fmt.Errorf("%+v", one)
		}
	}
	return err
}

func rdResources(topics []string, entries ...kafka.ConfigEntry) []kafka.ConfigResource {
	list := make([]kafka.ConfigResource, len(topics))
	for i, name := range topics {
		list[i] = kafka.ConfigResource{Type: kafka.ResourceTopic, Name: name, Config: entries}
	}
	return list
}

func (r rdScale) alter(ctx context.Context, topics []string, retention string) error {
	set := kafka.ConfigEntry{Name: "retention.ms", Value: retention, IncrementalOperation: kafka.AlterConfigOpTypeSet}
	rs, err := r.IncrementalAlterConfigs(ctx, rdResources(topics, set), kafka.SetAdminRequestTimeout(rdPatience))
	for _, one := range rs {
		err = rdError(err, one.Error)
	}
	return err
}

func (r rdScale) retention(ctx context.Context, topics []string) (map[string]string, error) {
	rs, err := r.DescribeConfigs(ctx, rdResources(topics), kafka.SetAdminRequestTimeout(rdPatience))
	got := make(map[string]string)
	for _, one := range rs {
		err = rdError(err, one.Error)
		got[one.Name] = one.Config["retention.ms"].Value
	}
	return got, err
}

func (r rdScale) remove(ctx context.Context, topics []string) error {
	rs, err := r.DeleteTopics(ctx, topics, kafka.SetAdminRequestTimeout(rdPatience), kafka.SetAdminOperationTimeout(rdPatience))
	for _, one := range rs {
		err = rdError(err, one.Error)
	}
	return err
}

func (r rdScale) commit(ctx context.Context, group, topic string, offset int64) error {
	rs, err := r.AlterConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{{Group: group,
		Partitions: []kafka.TopicPartition{{Topic: &topic, Offset: kafka.Offset(offset)}}}}, kafka.SetAdminRequestTimeout(rdPatience))
	for _, g := range rs.ConsumerGroupsTopicPartitions {
		for _, p := range g.Partitions {
			if err == nil {
				err = p.Error
			}
		}
	}
	return err
}

func (r rdScale) listGroups(ctx context.Context) (map[string]bool, error) {
	rs, err := r.ListConsumerGroups(ctx, kafka.SetAdminRequestTimeout(rdPatience))
	if err == nil && len(rs.Errors) > 0 {
		err = rs.Errors[0]
	}
	got := make(map[string]bool)
	for _, g := range rs.Valid {
		got[g.GroupID] = true
	}
	return got, err
}

func (r rdScale) describeGroups(ctx context.Context, groups []string) error {
	rs, err := r.DescribeConsumerGroups(ctx, groups, kafka.SetAdminRequestTimeout(rdPatience))
	if err == nil && len(rs.ConsumerGroupDescriptions) != len(groups) {
		err = fmt.Errorf("%d groups", len(rs.ConsumerGroupDescriptions))
	}
	for _, g := range rs.ConsumerGroupDescriptions {
		if err = rdError(err, g.Error); err == nil && g.State != kafka.ConsumerGroupStateEmpty {
			err = fmt.Errorf("%s is %v", g.GroupID, g.State)
		}
	}
	return err
}

func (r rdScale) committed(ctx context.Context, group, topic string) (int64, error) {
	rs, err := r.ListConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{{Group: group}}, kafka.SetAdminRequestTimeout(rdPatience))
	if err != nil {
		return 0, err
	}
	for _, p := range rs.ConsumerGroupsTopicPartitions[0].Partitions {
		if *p.Topic == topic && p.Error == nil {
			return int64(p.Offset), nil
		}
	}
	return -1, nil
}

func (r rdScale) removeGroups(ctx context.Context, groups []string) error {
	rs, err := r.DeleteConsumerGroups(ctx, groups, kafka.SetAdminRequestTimeout(rdPatience))
	for _, g := range rs.ConsumerGroupResults {
		err = rdError(err, g.Error)
	}
	return err
}
