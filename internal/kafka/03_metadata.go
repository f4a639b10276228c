package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Metadata (key 3), versions 0-13
//
//	0    no topics means all topics; later null does, and none means none
//	1    controller, rack, internal topics
//	2    cluster id
//	4    the client says whether unknown topics are created; before, yes
//	5    offline replicas
//	7    leader epochs
//	8    authorized operations: not told
//	9    flexible
//	10   topic ids; from 12 on topics may be asked for by them
//	13   an error of the whole response: there is none
//
// A topic that is created here is given a moment to elect its leaders, so
// that the first answer can be used. A partition without a live leader is
// LEADER_NOT_AVAILABLE with leader -1: a dead node is never named.

// maxAutoCreate bounds the topics that one request creates; the others are
// LEADER_NOT_AVAILABLE and created when the client asks again.
const maxAutoCreate = 100

func (s *Server) metadata(ctx context.Context, x *exchange, req *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	resp := kmsg.NewPtrMetadataResponse()
	all := req.Topics == nil || (x.version == 0 && len(req.Topics) == 0)
	var failed map[string]error
	if !all && s.opts.AutoCreate && (x.version < 4 || req.AllowAutoTopicCreation) {
		failed = s.autoCreate(ctx, x, req)
	}

	s.awaitLive(ctx, req, all)
	brokers := s.brokers(x.conn.listener)
	live := s.live(x.conn.listener)
	for _, b := range brokers {
		rb := kmsg.NewMetadataResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack = b.ID, b.Host, b.Port, rackOf(b)
		resp.Brokers = append(resp.Brokers, rb)
	}
	resp.ClusterID = kmsg.StringPtr(s.backend.ClusterID())
	resp.ControllerID = s.controller(brokers)

	if all {
		for _, t := range s.backend.Topics() {
			resp.Topics = append(resp.Topics, describeTopic(t, live))
		}
		return resp
	}
	seen := make(map[string]bool, len(req.Topics))
	for i := range req.Topics {
		rt := s.metadataTopic(&req.Topics[i], live, failed)
		key := string(rt.TopicID[:])
		if rt.Topic != nil {
			key = *rt.Topic
		}
		if !seen[key] { // one that is asked for often is answered once
			seen[key] = true
			resp.Topics = append(resp.Topics, rt)
		}
	}
	return resp
}

// awaitLive gives an election that is under way a moment to end.
func (s *Server) awaitLive(ctx context.Context, req *kmsg.MetadataRequest, all bool) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Limits.LeaderWait)
	defer cancel()
	if all {
		s.backend.AwaitLeaders(ctx, nil)
		return
	}
	names := make([]string, 0, len(req.Topics))
	for i := range req.Topics {
		if t := &req.Topics[i]; t.Topic != nil {
			names = append(names, *t.Topic)
		} else if info, ok := s.backend.TopicByID(t.TopicID); ok {
			names = append(names, info.Name)
		}
	}
	if len(names) > 0 {
		s.backend.AwaitLeaders(ctx, names)
	}
}

// metadataTopic answers for a topic that was asked for by name or id.
func (s *Server) metadataTopic(t *kmsg.MetadataRequestTopic, live live, failed map[string]error) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	if t.Topic == nil {
		info, ok := s.backend.TopicByID(t.TopicID)
		if ok {
			return describeTopic(info, live)
		}
		rt.TopicID, rt.ErrorCode = t.TopicID, kerr.UnknownTopicID.Code
		return rt
	}
	info, ok := s.backend.Topic(*t.Topic)
	if ok {
		return describeTopic(info, live)
	}
	rt.Topic = t.Topic
	switch err, tried := failed[*t.Topic]; {
	case !validTopic(*t.Topic):
		rt.ErrorCode = kerr.InvalidTopicException.Code
	case !tried:
		rt.ErrorCode = kerr.UnknownTopicOrPartition.Code
	case err == nil, retriable(err):
		rt.ErrorCode = kerr.LeaderNotAvailable.Code
	default:
		rt.ErrorCode = codeOf(err)
	}
	return rt
}

// retriable says whether the same request may succeed later.
func retriable(err error) bool {
	return kerr.IsRetriable(kerr.ErrorForCode(codeOf(err))) || errors.Is(err, kerr.TopicAlreadyExists)
}

func describeTopic(t TopicInfo, live live) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID, rt.IsInternal = kmsg.StringPtr(t.Name), t.ID, t.Internal
	rt.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, len(t.Partitions))
	for _, p := range t.Partitions {
		rp := kmsg.NewMetadataResponseTopicPartition()
		rp.Partition, rp.Leader, rp.LeaderEpoch = p.Index, p.Leader, p.Epoch
		rp.Replicas, rp.ISR, rp.OfflineReplicas = p.Replicas, p.ISR, p.Offline
		if !live.has(p.Leader) {
			rp.ErrorCode, rp.Leader = kerr.LeaderNotAvailable.Code, -1
		}
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}

// autoCreate creates the unknown topics of a request and waits a moment for
// their leaders. It returns what it tried, with the error or nil.
func (s *Server) autoCreate(ctx context.Context, x *exchange, req *kmsg.MetadataRequest) map[string]error {
	var tried map[string]error
	for i := range req.Topics {
		name := req.Topics[i].Topic
		if name == nil || !validTopic(*name) || internalTopic(*name) {
			continue
		}
		if _, ok := tried[*name]; ok {
			continue
		}
		if _, ok := s.backend.Topic(*name); ok {
			continue
		}
		if tried == nil {
			tried = make(map[string]error)
		}
		if len(tried) >= maxAutoCreate {
			tried[*name] = kerr.LeaderNotAvailable
			continue
		}
		cctx, cancel := context.WithTimeout(ctx, s.opts.Limits.ProduceTimeout)
		_, err := s.backend.CreateTopic(cctx, CreateTopicSpec{
			Name: *name, Partitions: s.opts.DefaultPartitions, ReplicationFactor: s.opts.DefaultRF,
		})
		cancel()
		if errors.Is(err, kerr.TopicAlreadyExists) {
			err = nil
		}
		s.unexpected(x, *name, err)
		tried[*name] = err
	}
	if len(tried) > 0 {
		s.awaitLeaders(ctx, x, tried)
	}
	return tried
}

// awaitLeaders waits until the created topics have live leaders, at most for
// Limits.CreateWait.
func (s *Server) awaitLeaders(ctx context.Context, x *exchange, created map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Limits.CreateWait)
	defer cancel()
	for {
		changed := s.backend.TopicsChanged()
		live, led := s.live(x.conn.listener), true
		for name, err := range created {
			if err == nil {
				t, ok := s.backend.Topic(name)
				led = led && ok
				for _, p := range t.Partitions {
					led = led && live.has(p.Leader)
				}
			}
		}
		if led {
			return
		}
		select {
		case <-changed:
		case <-x.conn.stop:
			return
		case <-ctx.Done():
			return
		}
	}
}

// validTopic says whether Kafka allows a topic of this name.
func validTopic(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > 249 {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// internalTopic says whether a topic is made by the system, never because a
// client asked for it.
func internalTopic(name string) bool {
	return name == "__consumer_offsets" || name == "__transaction_state"
}
