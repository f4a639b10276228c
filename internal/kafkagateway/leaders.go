package kafkagateway

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	refreshTimeout = 3 * time.Second
	missingFor     = 300 * time.Millisecond // a topic that is not there is not asked for again
	maxMissing     = 10_000
	maxTopics      = 200_000 // that are remembered
	maxTopicName   = 249
	maxAsked       = 1000                   // topics in one question
	barredFor      = 100 * time.Millisecond // a leader that says that it is none
	epochsFor      = 5 * time.Second        // an older leader epoch is not believed
)

// topicKey names a topic, by id where the name is empty.
type topicKey struct {
	name string
	id   [16]byte
}

// part names a partition as a request does.
type part struct {
	topicKey
	index int32
}

// topic is what is known of one.
type topic struct {
	name  string
	id    [16]byte
	parts []leading
	at    time.Time
}

// leading says who leads a partition.
type leading struct {
	node  int32 // -1 for none
	epoch int32
	told  time.Time // when a node said so last

	barred      int32 // said that it does not lead
	barredEpoch int32
	barredUntil time.Time
}

// absence is why a topic can't be used, and until when that is believed.
type absence struct {
	err   error
	until time.Time
}

// leader returns the node that leads a partition, if it is there. Errors are
// errUnasked; LEADER_NOT_AVAILABLE; or a final one.
func (v *view) leader(p part) (int32, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	name := p.name
	if name == "" {
		name = v.names[p.id]
	}
	t := v.topics[name]
	switch {
	case len(name) > maxTopicName:
		return -1, kerr.InvalidTopicException
	case t == nil || p.name == "" && t.id != p.id:
		if a, ok := v.missing[p.topicKey]; ok && time.Now().Before(a.until) {
			return -1, a.err
		}
		return -1, errUnasked
	case p.index < 0 || int(p.index) >= len(t.parts):
		if time.Since(t.at) > missingFor {
			return -1, errUnasked
		}
		return -1, kerr.UnknownTopicOrPartition
	}
	l := &t.parts[p.index]
	if m := v.members[l.node]; m == nil || !m.up {
		return -1, kerr.LeaderNotAvailable
	}
	return l.node, nil
}

// suspect notes that a node does not lead a partition, or is not there.
func (v *view) suspect(p part, node int32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l := v.partLocked(p); l != nil && l.node == node {
		l.barred, l.barredEpoch, l.barredUntil = node, l.epoch, time.Now().Add(barredFor)
		l.node = -1
	}
}

// hint takes in who a node says leads a partition in its stead.
func (v *view) hint(p part, node, epoch int32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.partLocked(p)
	if l == nil || node < 0 || epoch <= l.epoch || v.members[node] == nil {
		return
	}
	l.node, l.epoch, l.told = node, epoch, time.Now()
	v.notifyLocked()
}

func (v *view) partLocked(p part) *leading {
	name := p.name
	if name == "" {
		name = v.names[p.id]
	}
	if t := v.topics[name]; t != nil && p.index >= 0 && int(p.index) < len(t.parts) {
		return &t.parts[p.index]
	}
	return nil
}

// learn takes in what a node has said of topics.
func (v *view) learn(topics []kmsg.MetadataResponseTopic) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range topics {
		t := &topics[i]
		key, err := topicKey{id: t.TopicID}, kerr.ErrorForCode(t.ErrorCode)
		if t.Topic != nil {
			key = topicKey{name: *t.Topic}
		}
		switch {
		case err == nil && t.Topic != nil:
			v.learnLocked(t, now)
		case final(err) && t.ErrorCode != kerr.UnknownServerError.Code:
			v.forgetLocked(key, err, now)
		}
	}
	v.notifyLocked()
}

func (v *view) forgetLocked(key topicKey, why error, now time.Time) {
	if len(key.name) > maxTopicName {
		return
	}
	if len(v.missing) >= maxMissing {
		clear(v.missing)
	}
	v.missing[key] = absence{why, now.Add(missingFor)}
	name := key.name
	if name == "" {
		name = v.names[key.id]
	}
	if t := v.topics[name]; t != nil {
		delete(v.topics, name)
		delete(v.names, t.id)
	}
}

func (v *view) learnLocked(t *kmsg.MetadataResponseTopic, now time.Time) {
	old := v.topics[*t.Topic]
	next := &topic{name: *t.Topic, id: t.TopicID, at: now}
	if old != nil && t.TopicID == [16]byte{} { // asked in a version without ids
		next.id = old.id
	}
	if old != nil && old.id != next.id {
		delete(v.names, old.id)
		old = nil
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Partition < 0 || int(p.Partition) >= len(t.Partitions) {
			return // not a whole answer
		}
	}
	next.parts = make([]leading, len(t.Partitions))
	for i := range t.Partitions {
		p := &t.Partitions[i]
		l := leading{node: p.Leader, epoch: p.LeaderEpoch, told: now, barred: -1}
		if old != nil && int(p.Partition) < len(old.parts) {
			was := old.parts[p.Partition]
			if was.node >= 0 && was.epoch > l.epoch && now.Sub(was.told) < epochsFor {
				l = was
			}
			if l.node == was.barred && l.epoch <= was.barredEpoch && now.Before(was.barredUntil) {
				l.node = -1
			}
			l.barred, l.barredEpoch, l.barredUntil = was.barred, was.barredEpoch, was.barredUntil
		}
		next.parts[p.Partition] = l
	}
	if old == nil && len(v.topics) >= maxTopics { // long gone ones, most of them
		clear(v.topics)
		clear(v.names)
	}
	v.topics[next.name] = next
	if next.id != [16]byte{} {
		v.names[next.id] = next.name
	}
	delete(v.missing, topicKey{name: next.name})
	delete(v.missing, topicKey{id: next.id})
}

// refresh asks a node about topics, unless somebody is doing that already, and
// waits for the answer or ctx.
func (v *view) refresh(ctx context.Context, keys []topicKey) {
	var wait []chan struct{}
	var ask []topicKey
	done := make(chan struct{})
	v.mu.Lock()
	for _, k := range keys {
		if ch, under := v.asked[k]; under {
			if ch != done {
				wait = append(wait, ch)
			}
			continue
		}
		v.asked[k] = done
		ask = append(ask, k)
	}
	v.mu.Unlock()
	if len(ask) > 0 {
		wait = append(wait, done)
		if !v.g.background(func(ctx context.Context) {
			v.ask(ctx, ask)
			v.asking(ask, done)
		}) {
			v.asking(ask, done)
		}
	}
	for _, ch := range wait {
		select {
		case <-ch:
		case <-ctx.Done():
			return
		}
	}
}

func (v *view) asking(keys []topicKey, done chan struct{}) {
	v.mu.Lock()
	for _, k := range keys {
		delete(v.asked, k)
	}
	v.mu.Unlock()
	close(done)
}

func (v *view) ask(ctx context.Context, keys []topicKey) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	for some := range slices.Chunk(keys, maxAsked) { // a node takes no request of any size
		v.askSome(ctx, some)
	}
}

func (v *view) askSome(ctx context.Context, keys []topicKey) {
	req := metadataRequest()
	for _, k := range keys {
		t := kmsg.NewMetadataRequestTopic()
		if t.TopicID = k.id; k.name != "" {
			t.Topic = kmsg.StringPtr(k.name)
		}
		req.Topics = append(req.Topics, t)
	}
	v.g.metrics.refreshes.Inc()
	l, err := v.controlLink()
	if err != nil {
		return
	}
	resp, err := v.g.ask(ctx, l, req, gatewayClient)
	if err != nil {
		v.g.log.Debug("a node did not say who leads", "node", l.node, "err", err)
		return
	}
	v.learn(resp.(*kmsg.MetadataResponse).Topics)
}

// metadataRequest asks about no topic and creates none.
func metadataRequest() *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	req.Topics = []kmsg.MetadataRequestTopic{}
	return req
}
