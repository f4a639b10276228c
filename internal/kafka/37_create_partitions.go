package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreatePartitions (key 37), versions 0-3
//
//	2    flexible
//
// The count is the new total. Assignments, if there are any, are those of the
// new partitions, in order. Any node takes it. The answer waits for leaders as
// that of CreateTopics does.

func (s *Server) createPartitions(ctx context.Context, x *exchange, req *kmsg.CreatePartitionsRequest) *kmsg.CreatePartitionsResponse {
	ctx, cancel := context.WithTimeout(ctx, s.adminTimeout(req.TimeoutMillis))
	defer cancel()
	resp := kmsg.NewPtrCreatePartitionsResponse()
	named := make(map[string]int, len(req.Topics))
	for i := range req.Topics {
		named[req.Topics[i].Topic]++
	}
	var specs []CreatePartitionsSpec
	var at []int // their places in the response
	for i := range req.Topics {
		t := &req.Topics[i]
		times := named[t.Topic]
		if times == 0 {
			continue // answered already
		}
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic = t.Topic
		spec, err := s.createPartitionsSpec(t)
		if times > 1 {
			named[t.Topic] = 0
			err = Errorf(kerr.InvalidRequest, "Duplicate topic name.")
		}
		if err == nil {
			specs, at = append(specs, spec), append(at, len(resp.Topics))
		}
		rt.ErrorCode, rt.ErrorMessage = codeOf(err), messageOf(err)
		resp.Topics = append(resp.Topics, rt)
	}
	if len(specs) == 0 {
		return resp
	}
	grown := make(map[string]error, len(specs))
	for i, err := range s.backend.CreatePartitions(ctx, specs, req.ValidateOnly) {
		grown[specs[i].Topic] = err
		s.unexpected(x, specs[i].Topic, err)
		rt := &resp.Topics[at[i]]
		rt.ErrorCode, rt.ErrorMessage = codeOf(err), messageOf(err)
	}
	if !req.ValidateOnly {
		s.awaitLeaders(ctx, x, grown)
	}
	return resp
}

func (s *Server) createPartitionsSpec(t *kmsg.CreatePartitionsRequestTopic) (CreatePartitionsSpec, error) {
	spec := CreatePartitionsSpec{Topic: t.Topic, Count: t.Count}
	info, ok := s.backend.Topic(t.Topic)
	have := len(info.Partitions)
	switch added := int(t.Count) - have; {
	case !ok:
		return spec, kerr.UnknownTopicOrPartition
	case InternalTopic(t.Topic): // its number of partitions says who coordinates a group
		return spec, errInternalTopic(t.Topic)
	case added == 0:
		return spec, Errorf(kerr.InvalidPartitions, "Topic already has %d partition(s).", have)
	case added < 0:
		return spec, Errorf(kerr.InvalidPartitions, "Topic currently has %d partitions, which is higher than the requested %d.", have, t.Count)
	case t.Assignment != nil && len(t.Assignment) != added:
		return spec, Errorf(kerr.InvalidReplicaAssignment, "Attempted to add %d additional partition(s), but only %d assignment(s) were specified.", added, len(t.Assignment))
	}
	for _, a := range t.Assignment {
		if err := checkReplicas(a.Replicas); err != nil {
			return spec, err
		}
		spec.Assignments = append(spec.Assignments, a.Replicas)
	}
	return spec, nil
}
