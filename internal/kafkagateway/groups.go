package kafkagateway

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// Requests of groups go to the node that coordinates the group, in the order in
// which the client sent them, and are never sent twice: a client that is told
// NOT_COORDINATOR or COORDINATOR_NOT_AVAILABLE asks who coordinates, which looks
// for the node again, and knows itself what to say next. Names of many groups in
// one request are split by coordinator.

const (
	coordinatorLimit = 3 * time.Second // for finding a coordinator
	groupLimit       = 30 * time.Second
	joinLimit        = time.Minute      // beyond what the member may take
	syncLimit        = 10 * time.Minute // a SyncGroup waits for the group's leader
)

// grouped forwards a request about one group.
func (s *session) grouped(ctx context.Context, call *kafka.Call) {
	group, limit := groupOf(call.Request)
	refuse := func(code int16) { call.Reply(refuseGroup(call.Request, code)) }
	node, err := s.coordinator(ctx, group)
	if err != nil {
		refuse(coordinatorCode(err))
		return
	}
	api := kmsg.NameForKey(call.Request.Key())
	if !s.g.view.takes(node, call.Request.Key(), call.Request.GetVersion()) {
		refuse(kerr.UnsupportedVersion.Code)
		return
	}
	l, err := s.link(node, classGroup)
	if err == nil {
		f := newFlight(call.Request, call.ClientID())
		f.deadline = time.Now().Add(limit)
		f.done = func(body []byte, release func(), _ bool, err error) {
			if err != nil {
				s.g.view.forgetCoordinator(group, node)
				refuse(kerr.CoordinatorNotAvailable.Code)
				return
			}
			call.ReplyBody(body)
			release()
		}
		s.g.metrics.forwarded.WithLabelValues(api).Inc()
		err = l.send(f)
	}
	if err != nil {
		s.g.view.forgetCoordinator(group, node)
		refuse(kerr.CoordinatorNotAvailable.Code)
	}
}

// groupOf is the group that a request is about, and how long its answer may take.
func groupOf(req kmsg.Request) (string, time.Duration) {
	switch req := req.(type) {
	case *kmsg.JoinGroupRequest:
		return req.Group, time.Duration(max(req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, 0))*time.Millisecond + joinLimit
	case *kmsg.SyncGroupRequest:
		return req.Group, syncLimit
	case *kmsg.HeartbeatRequest:
		return req.Group, groupLimit
	case *kmsg.LeaveGroupRequest:
		return req.Group, groupLimit
	case *kmsg.OffsetCommitRequest:
		return req.Group, groupLimit
	case *kmsg.OffsetDeleteRequest:
		return req.Group, groupLimit
	case *kmsg.OffsetFetchRequest:
		if req.Version >= 8 && len(req.Groups) > 0 {
			return req.Groups[0].Group, groupLimit
		}
		return req.Group, groupLimit
	}
	panic("BUG: not a request of one group: " + kmsg.NameForKey(req.Key()))
}

// refuseGroup answers a request about one group with an error.
func refuseGroup(req kmsg.Request, code int16) kmsg.Response {
	switch req := req.(type) {
	case *kmsg.JoinGroupRequest:
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.ErrorCode, resp.MemberID = code, req.MemberID
		if req.Version < 7 {
			resp.Protocol = new(string)
		}
		return resp
	case *kmsg.SyncGroupRequest:
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.ErrorCode = code
		return resp
	case *kmsg.HeartbeatRequest:
		resp := kmsg.NewPtrHeartbeatResponse()
		resp.ErrorCode = code
		return resp
	case *kmsg.LeaveGroupRequest:
		resp := kmsg.NewPtrLeaveGroupResponse()
		resp.ErrorCode = code
		return resp
	case *kmsg.OffsetDeleteRequest:
		resp := kmsg.NewPtrOffsetDeleteResponse()
		resp.ErrorCode = code
		return resp
	case *kmsg.OffsetCommitRequest:
		return refuseCommit(req, code)
	case *kmsg.OffsetFetchRequest:
		return refuseFetch(req, code)
	}
	panic("BUG: not a request of one group: " + kmsg.NameForKey(req.Key()))
}

func refuseCommit(req *kmsg.OffsetCommitRequest, code int16) *kmsg.OffsetCommitResponse {
	resp := kmsg.NewPtrOffsetCommitResponse()
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func refuseFetch(req *kmsg.OffsetFetchRequest, code int16) *kmsg.OffsetFetchResponse {
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.ErrorCode = code
	for i := range req.Groups {
		rg := kmsg.NewOffsetFetchResponseGroup()
		rg.Group, rg.ErrorCode = req.Groups[i].Group, code
		resp.Groups = append(resp.Groups, rg)
	}
	if req.Version >= 2 {
		return resp
	}
	for _, t := range req.Topics { // no error of the whole
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, index := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.ErrorCode, rp.Metadata = index, -1, code, new(string)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func coordinatorCode(err error) int16 {
	var ke *kerr.Error
	if errors.As(err, &ke) {
		return ke.Code
	}
	return kerr.CoordinatorNotAvailable.Code
}

// coordinator returns the node that coordinates a group.
func (s *session) coordinator(ctx context.Context, group string) (int32, error) {
	if node, known := s.g.view.coordinator(group); known {
		return node, nil
	}
	ctx, cancel := context.WithTimeout(ctx, coordinatorLimit)
	defer cancel()
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKeys = 4, []string{group}
	for {
		node, err := s.findCoordinator(ctx, req)
		if err == nil || !errors.Is(err, kerr.CoordinatorNotAvailable) {
			return node, err
		}
		if pause(ctx, retryPause); ctx.Err() != nil {
			return -1, err
		}
	}
}

func (s *session) findCoordinator(ctx context.Context, req *kmsg.FindCoordinatorRequest) (int32, error) {
	l, err := s.g.view.controlLink()
	if err != nil {
		return -1, kerr.CoordinatorNotAvailable
	}
	resp, err := s.g.ask(ctx, l, req, gatewayClient)
	if err != nil {
		return -1, kerr.CoordinatorNotAvailable
	}
	for _, c := range resp.(*kmsg.FindCoordinatorResponse).Coordinators {
		if c.Key != req.CoordinatorKeys[0] {
			continue
		}
		if c.ErrorCode != 0 {
			return -1, kerr.ErrorForCode(c.ErrorCode)
		}
		if _, there := s.g.view.address(c.NodeID); !there {
			return -1, kerr.CoordinatorNotAvailable
		}
		s.g.view.setCoordinator(c.Key, c.NodeID)
		return c.NodeID, nil
	}
	return -1, kerr.CoordinatorNotAvailable
}

// byCoordinator asks the coordinators of groups about theirs. each gets the answer
// to a part, or the code of an error.
func (s *session) byCoordinator(call *kafka.Call, groups []string, request func(some []string) kmsg.Request, each func(some []string, resp kmsg.Response, code int16)) {
	nodes := make(map[int32][]string)
	for _, group := range groups {
		node, err := s.coordinator(s.ctx, group)
		if err != nil {
			each([]string{group}, nil, coordinatorCode(err))
			continue
		}
		nodes[node] = append(nodes[node], group)
	}
	type answer struct {
		node int32
		resp kmsg.Response
		err  error
	}
	ch := make(chan answer, len(nodes))
	for node, some := range nodes {
		s.go_(func() {
			resp, err := s.ask(node, request(some), call.ClientID(), groupLimit)
			ch <- answer{node, resp, err}
		})
	}
	for range nodes {
		a := <-ch
		code := int16(0)
		if a.err != nil {
			code = kerr.CoordinatorNotAvailable.Code
			if errors.Is(a.err, errVersion) {
				code = kerr.UnsupportedVersion.Code
			}
			for _, group := range nodes[a.node] {
				s.g.view.forgetCoordinator(group, a.node)
			}
		}
		each(nodes[a.node], a.resp, code)
	}
}

func (s *session) offsetFetch(call *kafka.Call, req *kmsg.OffsetFetchRequest) {
	asked := make(map[string]kmsg.OffsetFetchRequestGroup)
	var names []string
	for _, g := range req.Groups {
		asked[g.Group] = g
		names = append(names, g.Group)
	}
	told := make(map[string]kmsg.OffsetFetchResponseGroup)
	s.byCoordinator(call, names, func(some []string) kmsg.Request {
		sub := *req
		sub.Groups = nil
		for _, name := range some {
			sub.Groups = append(sub.Groups, asked[name])
		}
		return &sub
	}, func(some []string, resp kmsg.Response, code int16) {
		for _, name := range some {
			g := kmsg.NewOffsetFetchResponseGroup()
			g.Group, g.ErrorCode = name, code
			told[name] = g
		}
		if code == 0 {
			for _, g := range resp.(*kmsg.OffsetFetchResponse).Groups {
				told[g.Group] = g
			}
		}
	})
	resp := kmsg.NewPtrOffsetFetchResponse()
	for _, name := range names {
		resp.Groups = append(resp.Groups, told[name])
	}
	call.Reply(resp)
}

func (s *session) describeGroups(call *kafka.Call, req *kmsg.DescribeGroupsRequest) {
	told := make(map[string]kmsg.DescribeGroupsResponseGroup)
	s.byCoordinator(call, req.Groups, func(some []string) kmsg.Request {
		sub := *req
		sub.Groups = some
		return &sub
	}, func(some []string, resp kmsg.Response, code int16) {
		for _, name := range some {
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.ErrorCode = name, code
			told[name] = g
		}
		if code == 0 {
			for _, g := range resp.(*kmsg.DescribeGroupsResponse).Groups {
				told[g.Group] = g
			}
		}
	})
	resp := kmsg.NewPtrDescribeGroupsResponse()
	for _, name := range req.Groups {
		resp.Groups = append(resp.Groups, told[name])
	}
	call.Reply(resp)
}

func (s *session) deleteGroups(call *kafka.Call, req *kmsg.DeleteGroupsRequest) {
	told := make(map[string]int16)
	s.byCoordinator(call, req.Groups, func(some []string) kmsg.Request {
		sub := *req
		sub.Groups = some
		return &sub
	}, func(some []string, resp kmsg.Response, code int16) {
		for _, name := range some {
			told[name] = code
		}
		if code == 0 {
			for _, g := range resp.(*kmsg.DeleteGroupsResponse).Groups {
				told[g.Group] = g.ErrorCode
			}
		}
	})
	resp := kmsg.NewPtrDeleteGroupsResponse()
	for _, name := range req.Groups {
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode = name, told[name]
		resp.Groups = append(resp.Groups, g)
	}
	call.Reply(resp)
}

// listGroups lists the groups of all nodes that are there: those of the others have
// other coordinators, or will have.
func (s *session) listGroups(call *kafka.Call, req *kmsg.ListGroupsRequest) {
	resp := kmsg.NewPtrListGroupsResponse()
	seen := make(map[string]bool)
	s.allNodes(call, func(int32) kmsg.Request { return req }, func(_ int32, r kmsg.Response, err error) {
		if err != nil {
			resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
			return
		}
		one := r.(*kmsg.ListGroupsResponse)
		if one.ErrorCode != 0 {
			resp.ErrorCode = one.ErrorCode
		}
		for _, g := range one.Groups {
			if !seen[g.Group] {
				seen[g.Group] = true
				resp.Groups = append(resp.Groups, g)
			}
		}
	})
	call.Reply(resp)
}
