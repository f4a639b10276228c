package testcluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// readNow asks the node that Metadata names for the end of partition 0, and for its
// records, once each, and returns the first error.
func readNow(ctx context.Context, client *kgo.Client, topic string) error {
	ask := kmsg.NewPtrMetadataRequest()
	ask.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr(topic)}}
	md, err := ask.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	p := md.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return fmt.Errorf("metadata: error %d", p.ErrorCode)
	}
	leader := client.Broker(int(p.Leader))
	offsets := kmsg.NewPtrListOffsetsRequest()
	offsets.ReplicaID = -1
	offsets.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic,
		Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -1, CurrentLeaderEpoch: p.LeaderEpoch}}}}
	listed, err := offsets.RequestWith(ctx, leader)
	if err != nil {
		return err
	}
	end := listed.Topics[0].Partitions[0]
	if end.ErrorCode != 0 {
		return fmt.Errorf("list offsets: error %d", end.ErrorCode)
	}
	fetch := kmsg.NewPtrFetchRequest()
	fetch.MinBytes, fetch.MaxBytes = 1, 1<<20
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.FetchOffset, fp.CurrentLeaderEpoch, fp.PartitionMaxBytes = end.Offset, p.LeaderEpoch, 1<<20
	fetch.Topics = []kmsg.FetchRequestTopic{{Topic: topic, TopicID: md.Topics[0].TopicID, Partitions: []kmsg.FetchRequestTopicPartition{fp}}}
	fetched, err := fetch.RequestWith(ctx, leader)
	if err != nil {
		return err
	}
	if code := fetched.Topics[0].Partitions[0].ErrorCode; code != 0 {
		return fmt.Errorf("fetch: error %d", code)
	}
	return nil
}

// TestReadAtOnce reads a topic as soon as it is created, as clients do that try
// only once. On a busy machine an election may take longer than the nodes wait.
func TestReadAtOnce(t *testing.T) {
	c := Start(t, 3, nil)
	client := c.Client()
	adm := kadm.NewClient(client)
	const n = 40
	refused := 0
	for i := range n {
		topic := fmt.Sprintf("fresh-%d", i)
		made, err := adm.CreateTopic(t.Context(), 1, 3, nil, topic)
		if err != nil || made.Err != nil {
			t.Fatal(err, made.Err)
		}
		if err := readNow(t.Context(), client, topic); err != nil {
			t.Logf("%s: %v", topic, err)
			refused++
		}
	}
	if refused > n/8 {
		t.Errorf("%d of %d topics could not be read at once", refused, n)
	}
}

// TestReadThroughHandovers: a consumer of a partition whose leader's node stops is
// sent from one leader to the next, and hears no error.
func TestReadThroughHandovers(t *testing.T) {
	c := Start(t, 3, nil)
	client := c.Client()
	adm := kadm.NewClient(client)
	if _, err := adm.CreateTopic(t.Context(), 1, 3, nil, "numbers"); err != nil {
		t.Fatal(err)
	}
	// Nothing but what the leaders say leads the consumer on.
	consumer := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"numbers": {0: kgo.NewOffset().AtStart()}}),
		kgo.MetadataMinAge(time.Minute), kgo.MetadataMaxAge(time.Hour))
	n := 0
	write := func() {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "numbers", Value: fmt.Append(nil, n)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		n++
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for got := 0; got == 0; {
			fetches := consumer.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				t.Fatalf("record %d: %v", n, err)
			}
			got = fetches.NumRecords()
		}
	}
	for range 3 {
		write()
		var old int32
		testetcd.Eventually(t, "a leader", func() bool { old = detail(t, adm, "numbers").Leader; return old > 0 })
		c.Stop(old)
		write()
		c.Restart(old)
	}
}
