package kafkagateway

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// ListOffsets, OffsetForLeaderEpoch, DeleteRecords and DescribeProducers are about
// partitions: each leader is asked about its own. A partition that has moved is
// asked for again, for a while; DeleteRecords only where a node has refused, since
// with a lost connection nobody knows.

const splitLimit = 10 * time.Second // of trying again, and of a node's answer

// pieces is a request of type Q to nodes about partitions, and their results of
// type R.
type pieces[Q kmsg.Request, R any] struct {
	s     *session
	call  *kafka.Call
	parts []part
	limit time.Duration // of a node's answer
	once  bool          // a lost connection is not tried again
	// request asks for the parts with these indexes.
	request func(at []int) Q
	// results are those of an answer, in any order.
	results func(resp kmsg.Response, each func(p part, code int16, r R))
	// refused is the result for a part that could not be asked for.
	refused func(i int, code int16) R
}

// ask returns a result for each part.
func (q *pieces[Q, R]) ask() []R {
	got, codes := make([]R, len(q.parts)), make([]int16, len(q.parts))
	open := make([]int, len(q.parts))
	for i := range open {
		open[i] = i
	}
	until := time.Now().Add(splitLimit)
	for again := false; len(open) > 0; again = true {
		if again {
			if time.Now().After(until) || q.s.ctx.Err() != nil {
				break
			}
			q.s.g.metrics.retried.WithLabelValues(kmsg.NameForKey(q.call.Request.Key())).Add(float64(len(open)))
			pause(q.s.ctx, retryPause)
		}
		open = q.round(open, got, codes)
	}
	for _, i := range open {
		got[i] = q.refused(i, codes[i])
	}
	return got
}

// round asks about the open parts, and returns those that are still open.
func (q *pieces[Q, R]) round(open []int, got []R, codes []int16) (left []int) {
	ctx, cancel := context.WithTimeout(q.s.ctx, resolveLimit)
	nodes, errs := q.s.resolve(ctx, q.partsAt(open))
	cancel()
	groups := make(map[int32][]int)
	var lost []topicKey
	for n, i := range open {
		switch err := errs[n]; {
		case err == nil:
			groups[nodes[n]] = append(groups[nodes[n]], i)
		case final(err):
			got[i] = q.refused(i, codeOf(err))
		default:
			codes[i] = codeOf(err)
			left = append(left, i)
			lost = append(lost, q.parts[i].topicKey)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for node, at := range groups {
		wg.Go(func() {
			resp, err := q.s.ask(node, q.request(at), q.call.ClientID(), q.limit)
			mu.Lock()
			defer mu.Unlock()
			left = append(left, q.sort(node, at, resp, err, got, codes)...)
		})
	}
	if len(lost) > 0 {
		q.s.g.view.refresh(q.s.ctx, lost)
	}
	wg.Wait()
	return left
}

// sort puts a node's answer into its places, and returns the parts to ask for again.
func (q *pieces[Q, R]) sort(node int32, at []int, resp kmsg.Response, err error, got []R, codes []int16) (left []int) {
	if err != nil {
		for _, i := range at {
			switch {
			case q.once:
				got[i] = q.refused(i, kerr.RequestTimedOut.Code)
			default:
				q.s.g.view.suspect(q.parts[i], node)
				codes[i] = codeOf(err)
				left = append(left, i)
			}
		}
		return left
	}
	type result struct {
		code int16
		r    R
	}
	found := make(map[part]result, len(at)) // one that is named twice has one result
	q.results(resp, func(p part, code int16, r R) { found[p] = result{code, r} })
	for _, i := range at {
		r, ok := found[q.parts[i]]
		switch {
		case !ok:
			got[i] = q.refused(i, kerr.UnknownServerError.Code)
		case movedCode(r.code):
			q.s.g.view.suspect(q.parts[i], node)
			codes[i] = r.code
			left = append(left, i)
		default:
			got[i] = r.r
		}
	}
	return left
}

func (q *pieces[Q, R]) partsAt(at []int) []part {
	parts := make([]part, len(at))
	for n, i := range at {
		parts[n] = q.parts[i]
	}
	return parts
}

// place is where a partition stands in a request.
type place struct{ topic, part int }

// places lists the partitions of a request. name and partitions look into a topic,
// index into a partition.
func places[T, P any](topics []T, name func(*T) string, partitions func(*T) *[]P, index func(*P) int32) (at []place, parts []part) {
	for i := range topics {
		ps := *partitions(&topics[i])
		for j := range ps {
			at = append(at, place{i, j})
			parts = append(parts, part{topicKey{name: name(&topics[i])}, index(&ps[j])})
		}
	}
	return at, parts
}

// pick returns the topics of a request with the partitions that stand at some
// places.
func pick[T, P any](topics []T, all []place, at []int, partitions func(*T) *[]P) (picked []T) {
	last := -1
	for _, i := range at {
		if all[i].topic != last {
			last = all[i].topic
			picked = append(picked, topics[last])
			*partitions(&picked[len(picked)-1]) = nil
		}
		to := partitions(&picked[len(picked)-1])
		*to = append(*to, (*partitions(&topics[last]))[all[i].part])
	}
	return picked
}

func (s *session) listOffsets(call *kafka.Call, req *kmsg.ListOffsetsRequest) {
	type result = kmsg.ListOffsetsResponseTopicPartition
	q := pieces[*kmsg.ListOffsetsRequest, result]{s: s, call: call, limit: splitLimit}
	partitions := func(t *kmsg.ListOffsetsRequestTopic) *[]kmsg.ListOffsetsRequestTopicPartition { return &t.Partitions }
	at, parts := places(req.Topics, func(t *kmsg.ListOffsetsRequestTopic) string { return t.Topic }, partitions, func(p *kmsg.ListOffsetsRequestTopicPartition) int32 { return p.Partition })
	q.parts = parts
	q.request = func(some []int) *kmsg.ListOffsetsRequest {
		sub := *req
		sub.Topics = pick(req.Topics, at, some, partitions)
		return &sub
	}
	q.results = func(resp kmsg.Response, each func(part, int16, result)) {
		for _, t := range resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				each(part{topicKey{name: t.Topic}, p.Partition}, p.ErrorCode, p)
			}
		}
	}
	q.refused = func(i int, code int16) result {
		r := kmsg.NewListOffsetsResponseTopicPartition()
		r.Partition, r.ErrorCode, r.Offset, r.Timestamp = q.parts[i].index, code, -1, -1
		return r
	}
	got := q.ask()
	resp := kmsg.NewPtrListOffsetsResponse()
	n := 0
	for i := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = req.Topics[i].Topic
		rt.Partitions = got[n : n+len(req.Topics[i].Partitions)]
		n += len(rt.Partitions)
		resp.Topics = append(resp.Topics, rt)
	}
	call.Reply(resp)
}

func (s *session) offsetForLeaderEpoch(call *kafka.Call, req *kmsg.OffsetForLeaderEpochRequest) {
	type result = kmsg.OffsetForLeaderEpochResponseTopicPartition
	q := pieces[*kmsg.OffsetForLeaderEpochRequest, result]{s: s, call: call, limit: splitLimit}
	partitions := func(t *kmsg.OffsetForLeaderEpochRequestTopic) *[]kmsg.OffsetForLeaderEpochRequestTopicPartition {
		return &t.Partitions
	}
	at, parts := places(req.Topics, func(t *kmsg.OffsetForLeaderEpochRequestTopic) string { return t.Topic }, partitions, func(p *kmsg.OffsetForLeaderEpochRequestTopicPartition) int32 { return p.Partition })
	q.parts = parts
	q.request = func(some []int) *kmsg.OffsetForLeaderEpochRequest {
		sub := *req
		sub.Topics = pick(req.Topics, at, some, partitions)
		return &sub
	}
	q.results = func(resp kmsg.Response, each func(part, int16, result)) {
		for _, t := range resp.(*kmsg.OffsetForLeaderEpochResponse).Topics {
			for _, p := range t.Partitions {
				each(part{topicKey{name: t.Topic}, p.Partition}, p.ErrorCode, p)
			}
		}
	}
	q.refused = func(i int, code int16) result {
		r := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		r.Partition, r.ErrorCode, r.LeaderEpoch, r.EndOffset = q.parts[i].index, code, -1, -1
		return r
	}
	got := q.ask()
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	n := 0
	for i := range req.Topics {
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = req.Topics[i].Topic
		rt.Partitions = got[n : n+len(req.Topics[i].Partitions)]
		n += len(rt.Partitions)
		resp.Topics = append(resp.Topics, rt)
	}
	call.Reply(resp)
}

func (s *session) deleteRecords(call *kafka.Call, req *kmsg.DeleteRecordsRequest) {
	type result = kmsg.DeleteRecordsResponseTopicPartition
	q := pieces[*kmsg.DeleteRecordsRequest, result]{s: s, call: call, limit: adminTimeout(req.TimeoutMillis), once: true}
	partitions := func(t *kmsg.DeleteRecordsRequestTopic) *[]kmsg.DeleteRecordsRequestTopicPartition {
		return &t.Partitions
	}
	at, parts := places(req.Topics, func(t *kmsg.DeleteRecordsRequestTopic) string { return t.Topic }, partitions, func(p *kmsg.DeleteRecordsRequestTopicPartition) int32 { return p.Partition })
	q.parts = parts
	q.request = func(some []int) *kmsg.DeleteRecordsRequest {
		sub := *req
		sub.Topics = pick(req.Topics, at, some, partitions)
		return &sub
	}
	q.results = func(resp kmsg.Response, each func(part, int16, result)) {
		for _, t := range resp.(*kmsg.DeleteRecordsResponse).Topics {
			for _, p := range t.Partitions {
				each(part{topicKey{name: t.Topic}, p.Partition}, p.ErrorCode, p)
			}
		}
	}
	q.refused = func(i int, code int16) result {
		r := kmsg.NewDeleteRecordsResponseTopicPartition()
		r.Partition, r.ErrorCode, r.LowWatermark = q.parts[i].index, code, -1
		return r
	}
	got := q.ask()
	resp := kmsg.NewPtrDeleteRecordsResponse()
	n := 0
	for i := range req.Topics {
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = req.Topics[i].Topic
		rt.Partitions = got[n : n+len(req.Topics[i].Partitions)]
		n += len(rt.Partitions)
		resp.Topics = append(resp.Topics, rt)
	}
	call.Reply(resp)
}

func (s *session) describeProducers(call *kafka.Call, req *kmsg.DescribeProducersRequest) {
	type result = kmsg.DescribeProducersResponseTopicPartition
	q := pieces[*kmsg.DescribeProducersRequest, result]{s: s, call: call, limit: splitLimit}
	for i := range req.Topics {
		for _, index := range req.Topics[i].Partitions {
			q.parts = append(q.parts, part{topicKey{name: req.Topics[i].Topic}, index})
		}
	}
	q.request = func(at []int) *kmsg.DescribeProducersRequest {
		sub := *req
		sub.Topics = nil
		for _, i := range at {
			p := q.parts[i]
			if n := len(sub.Topics); n == 0 || sub.Topics[n-1].Topic != p.name {
				t := kmsg.NewDescribeProducersRequestTopic()
				t.Topic = p.name
				sub.Topics = append(sub.Topics, t)
			}
			last := &sub.Topics[len(sub.Topics)-1]
			last.Partitions = append(last.Partitions, p.index)
		}
		return &sub
	}
	q.results = func(resp kmsg.Response, each func(part, int16, result)) {
		for _, t := range resp.(*kmsg.DescribeProducersResponse).Topics {
			for _, p := range t.Partitions {
				each(part{topicKey{name: t.Topic}, p.Partition}, p.ErrorCode, p)
			}
		}
	}
	q.refused = func(i int, code int16) result {
		r := kmsg.NewDescribeProducersResponseTopicPartition()
		r.Partition, r.ErrorCode = q.parts[i].index, code
		return r
	}
	got := q.ask()
	resp := kmsg.NewPtrDescribeProducersResponse()
	n := 0
	for i := range req.Topics {
		rt := kmsg.NewDescribeProducersResponseTopic()
		rt.Topic = req.Topics[i].Topic
		rt.Partitions = got[n : n+len(req.Topics[i].Partitions)]
		n += len(rt.Partitions)
		resp.Topics = append(resp.Topics, rt)
	}
	call.Reply(resp)
}
