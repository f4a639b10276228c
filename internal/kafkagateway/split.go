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

// form is how a request of type Q and its answer are laid out: topics T of partitions P,
// and topics U of results R.
type form[Q kmsg.Request, T, P, U, R any] struct {
	topic   func(*T) (name string, partitions *[]P)
	index   func(*P) int32
	about   func([]T) Q // the request about these topics
	topics  func(kmsg.Response) []U
	results func(*U) (name *string, results *[]R)
	result  func(*R) (index *int32, code *int16)
	refused R // a result without anything
	answer  func([]U) kmsg.Response
}

// split answers a request about topics.
func split[Q kmsg.Request, T, P, U, R any](s *session, call *kafka.Call, topics []T, limit time.Duration, once bool, f form[Q, T, P, U, R]) {
	type place struct{ topic, part int }
	var at []place
	q := pieces[Q, R]{s: s, call: call, limit: limit, once: once}
	for i := range topics {
		name, partitions := f.topic(&topics[i])
		for j := range *partitions {
			at = append(at, place{i, j})
			q.parts = append(q.parts, part{topicKey{name: name}, f.index(&(*partitions)[j])})
		}
	}
	q.request = func(some []int) Q {
		var picked []T
		last := -1
		for _, i := range some {
			_, from := f.topic(&topics[at[i].topic])
			if at[i].topic != last {
				last = at[i].topic
				picked = append(picked, topics[last])
				_, to := f.topic(&picked[len(picked)-1])
				*to = nil
			}
			_, to := f.topic(&picked[len(picked)-1])
			*to = append(*to, (*from)[at[i].part])
		}
		return f.about(picked)
	}
	q.results = func(resp kmsg.Response, each func(part, int16, R)) {
		for _, t := range f.topics(resp) {
			name, results := f.results(&t)
			for _, r := range *results {
				index, code := f.result(&r)
				each(part{topicKey{name: *name}, *index}, *code, r)
			}
		}
	}
	q.refused = func(i int, code int16) R {
		r := f.refused
		at, of := f.result(&r)
		*at, *of = q.parts[i].index, code
		return r
	}
	got := q.ask()
	told := make([]U, len(topics))
	for i := range topics {
		name, partitions := f.topic(&topics[i])
		to, results := f.results(&told[i])
		*to, *results = name, got[:len(*partitions)]
		got = got[len(*partitions):]
	}
	call.Reply(f.answer(told))
}

func (s *session) listOffsets(call *kafka.Call, req *kmsg.ListOffsetsRequest) {
	type (
		T = kmsg.ListOffsetsRequestTopic
		P = kmsg.ListOffsetsRequestTopicPartition
		U = kmsg.ListOffsetsResponseTopic
		R = kmsg.ListOffsetsResponseTopicPartition
	)
	refused := kmsg.NewListOffsetsResponseTopicPartition()
	refused.Offset, refused.Timestamp = -1, -1
	split(s, call, req.Topics, splitLimit, false, form[*kmsg.ListOffsetsRequest, T, P, U, R]{
		topic:   func(t *T) (string, *[]P) { return t.Topic, &t.Partitions },
		index:   func(p *P) int32 { return p.Partition },
		about:   func(t []T) *kmsg.ListOffsetsRequest { sub := *req; sub.Topics = t; return &sub },
		topics:  func(resp kmsg.Response) []U { return resp.(*kmsg.ListOffsetsResponse).Topics },
		results: func(u *U) (*string, *[]R) { return &u.Topic, &u.Partitions },
		result:  func(r *R) (*int32, *int16) { return &r.Partition, &r.ErrorCode },
		refused: refused,
		answer:  func(u []U) kmsg.Response { return &kmsg.ListOffsetsResponse{Topics: u} },
	})
}

func (s *session) offsetForLeaderEpoch(call *kafka.Call, req *kmsg.OffsetForLeaderEpochRequest) {
	type (
		T = kmsg.OffsetForLeaderEpochRequestTopic
		P = kmsg.OffsetForLeaderEpochRequestTopicPartition
		U = kmsg.OffsetForLeaderEpochResponseTopic
		R = kmsg.OffsetForLeaderEpochResponseTopicPartition
	)
	refused := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
	refused.LeaderEpoch, refused.EndOffset = -1, -1
	split(s, call, req.Topics, splitLimit, false, form[*kmsg.OffsetForLeaderEpochRequest, T, P, U, R]{
		topic:   func(t *T) (string, *[]P) { return t.Topic, &t.Partitions },
		index:   func(p *P) int32 { return p.Partition },
		about:   func(t []T) *kmsg.OffsetForLeaderEpochRequest { sub := *req; sub.Topics = t; return &sub },
		topics:  func(resp kmsg.Response) []U { return resp.(*kmsg.OffsetForLeaderEpochResponse).Topics },
		results: func(u *U) (*string, *[]R) { return &u.Topic, &u.Partitions },
		result:  func(r *R) (*int32, *int16) { return &r.Partition, &r.ErrorCode },
		refused: refused,
		answer:  func(u []U) kmsg.Response { return &kmsg.OffsetForLeaderEpochResponse{Topics: u} },
	})
}

func (s *session) deleteRecords(call *kafka.Call, req *kmsg.DeleteRecordsRequest) {
	type (
		T = kmsg.DeleteRecordsRequestTopic
		P = kmsg.DeleteRecordsRequestTopicPartition
		U = kmsg.DeleteRecordsResponseTopic
		R = kmsg.DeleteRecordsResponseTopicPartition
	)
	split(s, call, req.Topics, adminTimeout(req.TimeoutMillis), true, form[*kmsg.DeleteRecordsRequest, T, P, U, R]{
		topic:   func(t *T) (string, *[]P) { return t.Topic, &t.Partitions },
		index:   func(p *P) int32 { return p.Partition },
		about:   func(t []T) *kmsg.DeleteRecordsRequest { sub := *req; sub.Topics = t; return &sub },
		topics:  func(resp kmsg.Response) []U { return resp.(*kmsg.DeleteRecordsResponse).Topics },
		results: func(u *U) (*string, *[]R) { return &u.Topic, &u.Partitions },
		result:  func(r *R) (*int32, *int16) { return &r.Partition, &r.ErrorCode },
		refused: R{LowWatermark: -1},
		answer:  func(u []U) kmsg.Response { return &kmsg.DeleteRecordsResponse{Topics: u} },
	})
}

func (s *session) describeProducers(call *kafka.Call, req *kmsg.DescribeProducersRequest) {
	type (
		T = kmsg.DescribeProducersRequestTopic
		U = kmsg.DescribeProducersResponseTopic
		R = kmsg.DescribeProducersResponseTopicPartition
	)
	split(s, call, req.Topics, splitLimit, false, form[*kmsg.DescribeProducersRequest, T, int32, U, R]{
		topic:   func(t *T) (string, *[]int32) { return t.Topic, &t.Partitions },
		index:   func(p *int32) int32 { return *p },
		about:   func(t []T) *kmsg.DescribeProducersRequest { sub := *req; sub.Topics = t; return &sub },
		topics:  func(resp kmsg.Response) []U { return resp.(*kmsg.DescribeProducersResponse).Topics },
		results: func(u *U) (*string, *[]R) { return &u.Topic, &u.Partitions },
		result:  func(r *R) (*int32, *int16) { return &r.Partition, &r.ErrorCode },
		answer:  func(u []U) kmsg.Response { return &kmsg.DescribeProducersResponse{Topics: u} },
	})
}
