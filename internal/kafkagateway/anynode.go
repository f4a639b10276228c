package kafkagateway

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// What any node can answer is asked of the home node, in order. What only reads
// is asked of another if the node is lost. What changes something may have been
// done: then the client's connection ends, as it does when a broker dies.
//
// In the answers the nodes become the one broker NodeID: as broker, controller,
// coordinator, leader and only replica. Who is missing is told as it is:
// partitions without a leader, coordinators that there are none of.

const (
	anyLimit   = 30 * time.Second // for an answer
	homeLimit  = 5 * time.Second  // for a node to be there
	anyTries   = 3
	adminSlack = 10 * time.Second
)

// adminTimeout is how long the answer to a change may take.
func adminTimeout(millis int32) time.Duration {
	return time.Duration(max(millis, 0))*time.Millisecond + adminSlack + anyLimit
}

// reads says whether a request changes nothing, or nothing that matters.
func reads(req kmsg.Request) bool {
	switch req.(type) {
	case *kmsg.MetadataRequest, *kmsg.FindCoordinatorRequest, *kmsg.InitProducerIDRequest, *kmsg.DescribeClusterRequest,
		*kmsg.DescribeConfigsRequest, *kmsg.ListPartitionReassignmentsRequest:
		return true
	}
	return false
}

// anyNode forwards a request to the home node. rewrite makes the client's answer
// of the node's; nil leaves it as it is.
func (s *session) anyNode(ctx context.Context, call *kafka.Call, rewrite func(kmsg.Response)) {
	s.forward(ctx, call, call.Request, -1, rewrite, 1)
}

// forward sends a request to a node, or with -1 to the home node.
func (s *session) forward(ctx context.Context, call *kafka.Call, req kmsg.Request, to int32, rewrite func(kmsg.Response), try int) {
	node := to
	if node < 0 {
		hctx, cancel := context.WithTimeout(ctx, homeLimit)
		var err error
		node, err = s.g.view.awaitHome(hctx)
		cancel()
		if err != nil {
			s.client.Abort(err)
			return
		}
	}
	api := kmsg.NameForKey(req.Key())
	lost := func(err error) {
		if try < anyTries && to < 0 && reads(req) && s.ctx.Err() == nil {
			s.g.metrics.retried.WithLabelValues(api).Inc()
			s.later(func() { s.forward(s.ctx, call, req, to, rewrite, try+1) })
			return
		}
		s.client.Abort(fmt.Errorf("%s at node %d: %w", api, node, err))
	}
	if !s.takes(node, req) {
		return
	}
	l, err := s.link(node, classOther)
	if err != nil {
		lost(err)
		return
	}
	f := newFlight(req, call.ClientID())
	f.deadline = time.Now().Add(limitOf(req))
	f.done = func(body []byte, release func(), _ bool, err error) {
		if err != nil {
			lost(err)
			return
		}
		if rewrite == nil {
			call.ReplyBody(body)
			release()
			return
		}
		resp, err := decode(req, body)
		release()
		if err != nil {
			s.client.Abort(err)
			return
		}
		rewrite(resp)
		call.Reply(resp)
	}
	s.g.metrics.forwarded.WithLabelValues(api).Inc()
	if err := l.send(f); err != nil {
		lost(err)
	}
}

// later does f in the background, unless the session is closed.
func (s *session) later(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.go_(func() {
			pause(s.ctx, retryPause)
			f()
		})
	}
}

// limitOf is how long a node's answer may take.
func limitOf(req kmsg.Request) time.Duration {
	if t, ok := req.(interface{ Timeout() int32 }); ok {
		return adminTimeout(t.Timeout())
	}
	return anyLimit
}

// allNodes asks all nodes that are there, and hands each answer over.
func (s *session) allNodes(call *kafka.Call, request func(node int32) kmsg.Request, each func(node int32, resp kmsg.Response, err error)) {
	hctx, cancel := context.WithTimeout(s.ctx, homeLimit)
	_, err := s.g.view.awaitHome(hctx)
	cancel()
	if err != nil {
		each(-1, nil, err)
		return
	}
	type answer struct {
		node int32
		resp kmsg.Response
		err  error
	}
	nodes := s.g.view.up()
	ch := make(chan answer, len(nodes))
	for _, node := range nodes {
		s.go_(func() {
			resp, err := s.ask(node, request(node), call.ClientID(), anyLimit)
			ch <- answer{node, resp, err}
		})
	}
	answers := make([]answer, 0, len(nodes))
	for range nodes {
		answers = append(answers, <-ch)
	}
	slices.SortFunc(answers, func(a, b answer) int { return int(a.node - b.node) })
	for _, a := range answers {
		if _, there := s.g.view.address(a.node); a.err != nil && !there {
			continue // it was lost meanwhile
		}
		each(a.node, a.resp, a.err)
	}
}

// rewriteMetadata makes the nodes one broker, after it has taken in what they say.
func (s *session) rewriteMetadata(resp kmsg.Response) {
	r := resp.(*kmsg.MetadataResponse)
	if r.Version >= 7 { // with leader epochs
		s.g.view.learn(r.Topics)
	}
	self := kmsg.NewMetadataResponseBroker()
	self.NodeID = NodeID
	self.Host, self.Port = address(s.client.Advertised)
	r.Brokers = []kmsg.MetadataResponseBroker{self}
	r.ControllerID = NodeID
	only := []int32{NodeID}
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			p := &r.Topics[i].Partitions[j]
			p.Replicas, p.ISR, p.OfflineReplicas = only, nil, nil
			if p.Leader >= 0 {
				p.Leader, p.ISR = NodeID, only
			} else {
				p.OfflineReplicas = only
			}
		}
	}
}

func (s *session) rewriteCoordinators(req *kmsg.FindCoordinatorRequest, resp kmsg.Response) {
	r := resp.(*kmsg.FindCoordinatorResponse)
	rewrite := func(key string, code int16, node *int32, host *string, port *int32) {
		if code != 0 {
			return
		}
		if req.CoordinatorType == 0 { // of a group
			s.g.view.setCoordinator(key, *node)
		}
		*node = NodeID
		*host, *port = address(s.client.Advertised)
	}
	if r.Version < 4 {
		rewrite(req.CoordinatorKey, r.ErrorCode, &r.NodeID, &r.Host, &r.Port)
		return
	}
	for i := range r.Coordinators {
		c := &r.Coordinators[i]
		rewrite(c.Key, c.ErrorCode, &c.NodeID, &c.Host, &c.Port)
	}
}

func (s *session) rewriteCluster(resp kmsg.Response) {
	r := resp.(*kmsg.DescribeClusterResponse)
	if r.ErrorCode != 0 {
		return
	}
	self := kmsg.NewDescribeClusterResponseBroker()
	self.NodeID = NodeID
	self.Host, self.Port = address(s.client.Advertised)
	r.Brokers = []kmsg.DescribeClusterResponseBroker{self}
	r.ControllerID = NodeID
}

// describeLogDirs asks all nodes: each directory has its node before its path.
func (s *session) describeLogDirs(call *kafka.Call, req *kmsg.DescribeLogDirsRequest) {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	s.allNodes(call, func(int32) kmsg.Request { return req }, func(node int32, r kmsg.Response, err error) {
		if err != nil {
			d := kmsg.NewDescribeLogDirsResponseDir()
			d.Dir, d.ErrorCode = fmt.Sprintf("%d:", node), kerr.RequestTimedOut.Code
			resp.Dirs = append(resp.Dirs, d)
			return
		}
		for _, d := range r.(*kmsg.DescribeLogDirsResponse).Dirs {
			d.Dir = fmt.Sprintf("%d:%s", node, d.Dir)
			resp.Dirs = append(resp.Dirs, d)
		}
	})
	call.Reply(resp)
}

// describeConfigs: a node describes itself under its own number. What is asked for
// under the gateway's is the home node's.
func (s *session) describeConfigs(ctx context.Context, call *kafka.Call, req *kmsg.DescribeConfigsRequest) {
	if !slices.ContainsFunc(req.Resources, func(r kmsg.DescribeConfigsRequestResource) bool { return ofBroker(r.ResourceType, r.ResourceName) }) {
		s.anyNode(ctx, call, nil)
		return
	}
	s.go_(func() {
		resp := kmsg.NewPtrDescribeConfigsResponse()
		resp.Resources = make([]kmsg.DescribeConfigsResponseResource, len(req.Resources))
		for i := range req.Resources {
			resp.Resources[i] = s.describeOne(call, req, &req.Resources[i])
		}
		call.Reply(resp)
	})
}

// ofBroker says whether a resource is one broker.
func ofBroker(kind kmsg.ConfigResourceType, name string) bool {
	return kind == kmsg.ConfigResourceTypeBroker && name != ""
}

func (s *session) describeOne(call *kafka.Call, req *kmsg.DescribeConfigsRequest, r *kmsg.DescribeConfigsRequestResource) kmsg.DescribeConfigsResponseResource {
	one := *req
	one.Resources = []kmsg.DescribeConfigsRequestResource{*r}
	node, found := s.g.view.home()
	if id, err := strconv.ParseInt(r.ResourceName, 10, 32); ofBroker(r.ResourceType, r.ResourceName) && err == nil {
		if int32(id) != NodeID {
			node = int32(id)
			_, found = s.g.view.address(node)
		}
		one.Resources[0].ResourceName = strconv.Itoa(int(node))
	}
	var err error = kerr.BrokerNotAvailable
	if found {
		var resp kmsg.Response
		if resp, err = s.ask(node, &one, call.ClientID(), anyLimit); err == nil {
			if told := resp.(*kmsg.DescribeConfigsResponse).Resources; len(told) == 1 {
				told[0].ResourceName = r.ResourceName
				return told[0]
			}
			err = kerr.UnknownServerError
		}
	}
	rr := kmsg.NewDescribeConfigsResponseResource()
	rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
	rr.ErrorCode, rr.ErrorMessage = kerr.BrokerNotAvailable.Code, kmsg.StringPtr("the node can't be asked: "+err.Error())
	return rr
}

const noConfigs = "broker 0 is the gateway, which has no configurations: name a node, or all of them with an empty name"

func (s *session) alterConfigs(ctx context.Context, call *kafka.Call, req *kmsg.AlterConfigsRequest) {
	self := func(r kmsg.AlterConfigsRequestResource) bool { return ofGateway(r.ResourceType, r.ResourceName) }
	if !slices.ContainsFunc(req.Resources, self) {
		s.anyNode(ctx, call, nil)
		return
	}
	resp := kmsg.NewPtrAlterConfigsResponse()
	for _, r := range req.Resources {
		rr := kmsg.NewAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		rr.ErrorCode, rr.ErrorMessage = kerr.InvalidRequest.Code, kmsg.StringPtr(noConfigs)
		resp.Resources = append(resp.Resources, rr)
	}
	call.Reply(resp)
}

func (s *session) incrementalAlterConfigs(ctx context.Context, call *kafka.Call, req *kmsg.IncrementalAlterConfigsRequest) {
	self := func(r kmsg.IncrementalAlterConfigsRequestResource) bool {
		return ofGateway(r.ResourceType, r.ResourceName)
	}
	if !slices.ContainsFunc(req.Resources, self) {
		s.anyNode(ctx, call, nil)
		return
	}
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	for _, r := range req.Resources {
		rr := kmsg.NewIncrementalAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		rr.ErrorCode, rr.ErrorMessage = kerr.InvalidRequest.Code, kmsg.StringPtr(noConfigs)
		resp.Resources = append(resp.Resources, rr)
	}
	call.Reply(resp)
}

func ofGateway(kind kmsg.ConfigResourceType, name string) bool {
	return ofBroker(kind, name) && name == strconv.Itoa(int(NodeID))
}
