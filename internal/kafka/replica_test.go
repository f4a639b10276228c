package kafka

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// setInSync gives a partition an in-sync set.
func (b *memBackend) setInSync(topic string, index int32, nodes ...int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[topic]
	t.info.Partitions = slices.Clone(t.info.Partitions)
	t.info.Partitions[index].ISR = nodes
	b.bumpLocked()
}

// setFollows has partition 0 of a topic be a follower that serves its rack up to
// where it is.
func (p *memPartition) setFollows(follows bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.follows, p.deposed = follows, follows
	p.wakeLocked()
}

// Whom the leader sends elsewhere, and where to.
func TestPreferredReadReplica(t *testing.T) {
	r := newRig(t, func(o *Options) { o.RackAware = true })
	r.back.mustCreate("t", 4)
	r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {})
	r.back.mu.Lock()
	r.back.brokers = append(r.back.brokers, Broker{ID: 2, Host: "h", Port: 1, Rack: "b"}, Broker{ID: 3, Host: "h", Port: 1, Rack: "b"},
		Broker{ID: 4, Host: "h", Port: 1, Rack: "c"})
	r.back.mu.Unlock()
	for _, c := range []struct {
		name    string
		version int16
		rack    string
		offset  int64
		inSync  []int32
		want    int32
		code    *kerr.Error
	}{
		{"a follower in the rack", 11, "b", 0, []int32{1, 2}, 2, nil},
		{"at the end", 18, "b", 1, []int32{1, 3}, 3, nil},
		{"the leader's rack", 11, "a", 0, []int32{1, 2, 3}, -1, nil},
		{"no rack", 11, "", 0, []int32{1, 2, 3}, -1, nil},
		{"a rack without a replica", 11, "d", 0, []int32{1, 2, 3}, -1, nil},
		{"one that is not in sync", 11, "b", 0, []int32{1, 4}, -1, nil},
		{"a broker that is gone", 11, "b", 0, []int32{1, 9}, -1, nil},
		{"out of range is the leader's to say", 11, "b", 2, []int32{1, 2}, -1, kerr.OffsetOutOfRange},
	} {
		r.back.setInSync("t", 0, c.inSync...)
		req := fetchReq("t", topicID(r, "t"), c.offset, 0)
		req.Rack, req.MaxWaitMillis = c.rack, 0
		if c.want >= 0 {
			req.MaxWaitMillis = 60_000 // it is told at once
		}
		got := ask[*kmsg.FetchResponse](r.dial(), req, c.version).Topics[0].Partitions[0]
		wantCode(t, c.name, got.ErrorCode, c.code)
		if got.PreferredReadReplica != c.want {
			t.Errorf("%s: sent to %d, want %d", c.name, got.PreferredReadReplica, c.want)
		}
		if records := len(got.RecordBatches) > 0; records != (c.want < 0 && c.code == nil && c.offset == 0) {
			t.Errorf("%s: %d bytes of records", c.name, len(got.RecordBatches))
		}
		if c.code == nil && got.HighWatermark != 1 {
			t.Errorf("%s: high watermark %d", c.name, got.HighWatermark)
		}
	}
	// Several in the rack share the partitions.
	used := make(map[int32]bool)
	for i := range int32(4) {
		r.back.setInSync("t", i, 1, 2, 3)
		req := fetchReq("t", topicID(r, "t"), 0, i)
		req.Rack = "b"
		used[ask[*kmsg.FetchResponse](r.dial(), req, 12).Topics[0].Partitions[0].PreferredReadReplica] = true
	}
	if len(used) != 2 || !used[2] || !used[3] {
		t.Errorf("sent to %v", used)
	}
}

// Without the setting nobody is sent anywhere, nor served by a follower.
func TestLeaderReads(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {})
	r.back.setInSync("t", 0, 1, 2)
	r.back.mu.Lock()
	r.back.brokers = append(r.back.brokers, Broker{ID: 2, Host: "h", Port: 1, Rack: "b"})
	r.back.mu.Unlock()
	req := fetchReq("t", topicID(r, "t"), 0, 0)
	req.Rack = "b"
	if got := ask[*kmsg.FetchResponse](r.dial(), req, 12).Topics[0].Partitions[0]; got.PreferredReadReplica != -1 || len(got.RecordBatches) == 0 {
		t.Errorf("sent to %d though it is off", got.PreferredReadReplica)
	}
	r.back.part("t", 0).setFollows(true)
	wantCode(t, "a follower", ask[*kmsg.FetchResponse](r.dial(), req, 12).Topics[0].Partitions[0].ErrorCode, kerr.NotLeaderForPartition)
}

// What a follower answers: up to its own high watermark, to those with a rack.
func TestFollowerFetch(t *testing.T) {
	r := newRig(t, func(o *Options) { o.RackAware = true })
	r.back.mustCreate("t", 1)
	for range 3 {
		r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {})
	}
	r.back.part("t", 0).setStart(1, 0)
	r.back.part("t", 0).setFollows(true)
	for _, c := range []struct {
		name    string
		version int16
		rack    string
		offset  int64
		epoch   int32
		want    *kerr.Error
		batches int
	}{
		{"records", 11, "b", 1, -1, nil, 2},
		{"its epoch", 11, "b", 1, 3, nil, 2},
		{"an old epoch", 11, "b", 1, 2, kerr.FencedLeaderEpoch, 0},
		{"a newer epoch", 11, "b", 1, 4, kerr.UnknownLeaderEpoch, 0},
		{"its end", 11, "b", 3, -1, nil, 0},
		{"beyond it", 11, "b", 4, -1, kerr.OffsetNotAvailable, 0},
		{"below the start", 11, "b", 0, -1, kerr.OffsetOutOfRange, 0},
		{"no rack", 11, "", 1, -1, kerr.NotLeaderForPartition, 0},
		{"no field for it", 10, "b", 1, -1, kerr.NotLeaderForPartition, 0},
	} {
		req := fetchReq("t", topicID(r, "t"), c.offset, 0)
		req.Rack, req.Topics[0].Partitions[0].CurrentLeaderEpoch = c.rack, c.epoch
		got := ask[*kmsg.FetchResponse](r.dial(), req, c.version).Topics[0].Partitions[0]
		wantCode(t, c.name, got.ErrorCode, c.want)
		if n := len(got.RecordBatches) / len(testBatch(10)); n != c.batches {
			t.Errorf("%s: %d batches, want %d", c.name, n, c.batches)
		}
	}
}

// An offset that a follower does not know yet is waited for, in a session too,
// and a follower that no longer follows says so at once.
func TestFollowerFetchWaits(t *testing.T) {
	r := newRig(t, func(o *Options) { o.RackAware = true })
	info := r.back.mustCreate("t", 1)
	p := r.back.part("t", 0)
	p.setFollows(true)
	s := &sessionClient{c: r.dial(), version: 12}
	roam := func(q *kmsg.FetchRequest) { q.Rack, q.MaxWaitMillis = "b", 60_000 }
	answer := make(chan *kmsg.FetchResponse, 1)
	go func() { answer <- s.fetch(readTopic("t", info.ID, 1, 0), nil, roam) }()
	eventually(t, "the fetch waits", func() bool { return p.watched() == 1 })
	p.follow(testBatch(10))
	p.follow(testBatch(10))
	got := (<-answer).Topics[0].Partitions[0]
	wantCode(t, "known by now", got.ErrorCode, nil)
	go func() { answer <- s.fetch(readTopic("t", info.ID, 2, 0), nil, roam) }()
	eventually(t, "the fetch waits again", func() bool { return p.watched() == 1 })
	p.mu.Lock()
	p.follows = false
	p.wakeLocked()
	p.mu.Unlock()
	wantCode(t, "lost its leader", (<-answer).Topics[0].Partitions[0].ErrorCode, kerr.NotLeaderForPartition)
}

// follow appends what the leader sent.
func (p *memPartition) follow(batch []byte) {
	p.mu.Lock()
	p.commitLocked(batch, func(AppendResult) {})
}
