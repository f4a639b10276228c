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
// NOT_COORDINATOR or COORDINATOR_NOT_AVAILABLE asks who coordinates, and knows itself
// what to say next. The node is looked for again when it has refused, since the
// client's question may go to another gateway. Names of many groups in one request
// are split by coordinator.

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
	if !s.takes(node, call.Request) {
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
			if movedGroup(groupCode(call.Request, body)) {
				s.g.view.forgetCoordinator(group, node)
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

// byCoordinator asks the coordinators of groups about theirs, and returns a result
// for each group. results are those of an answer, refused is one for a group that
// could not be asked about.
func byCoordinator[R any](s *session, call *kafka.Call, groups []string, request func(some []string) kmsg.Request,
	results func(resp kmsg.Response, each func(group string, code int16, r R)), refused func(group string, code int16) R,
) []R {
	told := make(map[string]R)
	refuse := func(some []string, code int16) {
		for _, group := range some {
			told[group] = refused(group, code)
		}
	}
	nodes := make(map[int32][]string)
	for _, group := range groups {
		if node, err := s.coordinator(s.ctx, group); err != nil {
			refuse([]string{group}, coordinatorCode(err))
		} else {
			nodes[node] = append(nodes[node], group)
		}
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
		if a.err != nil {
			refuse(nodes[a.node], kerr.CoordinatorNotAvailable.Code)
			for _, group := range nodes[a.node] {
				s.g.view.forgetCoordinator(group, a.node)
			}
			continue
		}
		refuse(nodes[a.node], kerr.UnknownServerError.Code) // if the node leaves it out
		results(a.resp, func(group string, code int16, r R) {
			if movedGroup(code) {
				s.g.view.forgetCoordinator(group, a.node)
			}
			told[group] = r
		})
	}
	all := make([]R, len(groups))
	for i, group := range groups {
		all[i] = told[group]
	}
	return all
}

func (s *session) offsetFetch(call *kafka.Call, req *kmsg.OffsetFetchRequest) {
	asked := make(map[string]kmsg.OffsetFetchRequestGroup)
	var names []string
	for _, g := range req.Groups {
		asked[g.Group] = g
		names = append(names, g.Group)
	}
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.Groups = byCoordinator(s, call, names, func(some []string) kmsg.Request {
		sub := *req
		sub.Groups = nil
		for _, name := range some {
			sub.Groups = append(sub.Groups, asked[name])
		}
		return &sub
	}, func(resp kmsg.Response, each func(string, int16, kmsg.OffsetFetchResponseGroup)) {
		for _, g := range resp.(*kmsg.OffsetFetchResponse).Groups {
			each(g.Group, g.ErrorCode, g)
		}
	}, func(name string, code int16) kmsg.OffsetFetchResponseGroup {
		g := kmsg.NewOffsetFetchResponseGroup()
		g.Group, g.ErrorCode = name, code
		return g
	})
	call.Reply(resp)
}

func (s *session) describeGroups(call *kafka.Call, req *kmsg.DescribeGroupsRequest) {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	resp.Groups = byCoordinator(s, call, req.Groups, func(some []string) kmsg.Request {
		sub := *req
		sub.Groups = some
		return &sub
	}, func(resp kmsg.Response, each func(string, int16, kmsg.DescribeGroupsResponseGroup)) {
		for _, g := range resp.(*kmsg.DescribeGroupsResponse).Groups {
			each(g.Group, g.ErrorCode, g)
		}
	}, func(name string, code int16) kmsg.DescribeGroupsResponseGroup {
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group, g.ErrorCode = name, code
		return g
	})
	call.Reply(resp)
}

func (s *session) deleteGroups(call *kafka.Call, req *kmsg.DeleteGroupsRequest) {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	resp.Groups = byCoordinator(s, call, req.Groups, func(some []string) kmsg.Request {
		sub := *req
		sub.Groups = some
		return &sub
	}, func(resp kmsg.Response, each func(string, int16, kmsg.DeleteGroupsResponseGroup)) {
		for _, g := range resp.(*kmsg.DeleteGroupsResponse).Groups {
			each(g.Group, g.ErrorCode, g)
		}
	}, func(name string, code int16) kmsg.DeleteGroupsResponseGroup {
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode = name, code
		return g
	})
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
