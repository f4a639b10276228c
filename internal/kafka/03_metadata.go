package kafka

import (
	"context"
	"slices"

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
//	8    authorized operations: all of them, since nobody is refused any
//	9    flexible
//	10   topic ids; from 12 on topics may be asked for by them
//	13   an error of the whole response: there is none
//
// A topic that is created because of the request is UNKNOWN_TOPIC_OR_PARTITION
// in the answer (03_metadata_create.go). A partition without a live leader is
// LEADER_NOT_AVAILABLE with leader -1: a dead node is never named.

func (s *Server) metadata(ctx context.Context, x *exchange, req *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	resp := kmsg.NewPtrMetadataResponse()
	all := req.Topics == nil || (x.version == 0 && len(req.Topics) == 0)
	var created map[string]error // what to answer instead of what is there
	if !all && s.backend.Defaults().AutoCreate && (x.version < 4 || req.AllowAutoTopicCreation) {
		created = s.autoCreate(ctx, x, names(req))
	}

	s.awaitLive(ctx, req, all, created)
	brokers := s.brokers(x.conn.listener)
	live := s.live(x.conn.listener)
	for _, b := range brokers {
		rb := kmsg.NewMetadataResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack = b.ID, b.Host, b.Port, rackOf(b)
		resp.Brokers = append(resp.Brokers, rb)
	}
	resp.ClusterID = kmsg.StringPtr(s.backend.ClusterID())
	resp.ControllerID = s.controller(brokers)
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	defer func() {
		for i := range resp.Topics {
			if req.IncludeTopicAuthorizedOperations && resp.Topics[i].ErrorCode == 0 {
				resp.Topics[i].AuthorizedOperations = topicOperations
			}
		}
	}()

	if all {
		for _, t := range s.backend.Topics() {
			resp.Topics = append(resp.Topics, describeTopic(t, live))
		}
		return resp
	}
	byName, byID, named := make(once[string]), make(once[[16]byte]), make(once[string])
	for i := range req.Topics {
		t := &req.Topics[i]
		if t.Topic != nil && !byName.first(*t.Topic) || t.Topic == nil && !byID.first(t.TopicID) {
			continue
		}
		// By its name and by its id it is still one topic.
		if rt := s.metadataTopic(t, live, created); rt.Topic == nil || named.first(*rt.Topic) {
			resp.Topics = append(resp.Topics, rt)
		}
	}
	return resp
}

// awaitLive gives an election that is under way a moment to end, but for topics
// of which nothing is told yet.
func (s *Server) awaitLive(ctx context.Context, req *kmsg.MetadataRequest, all bool, created map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Limits.LeaderWait)
	defer cancel()
	if all {
		s.backend.AwaitLeaders(ctx, nil)
		return
	}
	asked := slices.DeleteFunc(names(req), func(name string) bool { return created[name] != nil })
	for i := range req.Topics {
		if t := &req.Topics[i]; t.Topic == nil {
			if info, ok := s.backend.TopicByID(t.TopicID); ok {
				asked = append(asked, info.Name)
			}
		}
	}
	if len(asked) > 0 {
		s.backend.AwaitLeaders(ctx, asked)
	}
}

// names are the topics that are asked for by name.
func names(req *kmsg.MetadataRequest) []string {
	list := make([]string, 0, len(req.Topics))
	for i := range req.Topics {
		if name := req.Topics[i].Topic; name != nil {
			list = append(list, *name)
		}
	}
	return list
}

// metadataTopic answers for a topic that was asked for by name or id.
func (s *Server) metadataTopic(t *kmsg.MetadataRequestTopic, live live, created map[string]error) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	if t.Topic == nil {
		info, ok := s.backend.TopicByID(t.TopicID)
		if ok {
			return describeTopic(info, live)
		}
		rt.TopicID, rt.ErrorCode = t.TopicID, kerr.UnknownTopicID.Code
		return rt
	}
	rt.Topic = t.Topic
	if !validTopic(*t.Topic) {
		rt.ErrorCode = kerr.InvalidTopicException.Code
	} else if err := created[*t.Topic]; err != nil {
		rt.ErrorCode = codeOf(err)
	} else if info, ok := s.backend.Topic(*t.Topic); ok {
		return describeTopic(info, live)
	} else {
		rt.ErrorCode = kerr.UnknownTopicOrPartition.Code
	}
	return rt
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

// InternalTopic says whether a topic is the system's: it is made, written and
// changed by it, never because a client asked for it. Clients may read it.
func InternalTopic(name string) bool {
	return name == "__consumer_offsets" || name == "__transaction_state"
}

// errInternalTopic refuses what clients must not do with an internal topic.
func errInternalTopic(name string) error {
	return Errorf(kerr.InvalidTopicException, "%s is an internal topic: clients can only read it", name)
}
