package kafkagateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// class keeps apart what must not wait for each other on the way to a node.
type class uint8

const (
	classProduce class = iota
	classFetch         // two of them: one may be parked for what nobody wants any more
	classFetch2
	classGroup
	classOther
)

type linkKey struct {
	node  int32
	class class
}

// session is one client's connection.
//
// Lock order: lanes.mu before mu; standings.mu stands alone. No callback of a
// link takes long.
type session struct {
	g      *Gateway
	client kafka.ForwardClient

	ctx    context.Context // of what runs in the background
	cancel context.CancelFunc
	wg     sync.WaitGroup

	lanes     lanes
	standings standings

	mu     sync.Mutex
	closed bool
	links  map[linkKey]*link
}

func newSession(g *Gateway, c kafka.ForwardClient) *session {
	s := &session{g: g, client: c, links: make(map[linkKey]*link)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.lanes.init(s)
	s.standings.init(s)
	return s
}

// Start implements kafka.ForwardSession.
func (s *session) Start(ctx context.Context, call *kafka.Call) {
	switch req := call.Request.(type) {
	case *kmsg.ProduceRequest:
		s.produce(ctx, call, req)
	case *kmsg.FetchRequest:
		s.fetch(call, req)
	case *kmsg.ListOffsetsRequest:
		s.go_(func() { s.listOffsets(call, req) })
	case *kmsg.OffsetForLeaderEpochRequest:
		s.go_(func() { s.offsetForLeaderEpoch(call, req) })
	case *kmsg.DeleteRecordsRequest:
		s.go_(func() { s.deleteRecords(call, req) })
	case *kmsg.DescribeProducersRequest:
		s.go_(func() { s.describeProducers(call, req) })
	case *kmsg.JoinGroupRequest, *kmsg.SyncGroupRequest, *kmsg.HeartbeatRequest, *kmsg.LeaveGroupRequest,
		*kmsg.OffsetCommitRequest, *kmsg.OffsetDeleteRequest:
		s.grouped(ctx, call)
	case *kmsg.OffsetFetchRequest:
		if req.Version < 8 || len(req.Groups) == 1 {
			s.grouped(ctx, call)
			return
		}
		s.go_(func() { s.offsetFetch(call, req) })
	case *kmsg.DescribeGroupsRequest:
		s.go_(func() { s.describeGroups(call, req) })
	case *kmsg.DeleteGroupsRequest:
		s.go_(func() { s.deleteGroups(call, req) })
	case *kmsg.ListGroupsRequest:
		s.go_(func() { s.listGroups(call, req) })
	case *kmsg.DescribeLogDirsRequest:
		s.go_(func() { s.describeLogDirs(call, req) })
	case *kmsg.MetadataRequest:
		s.anyNode(ctx, call, s.rewriteMetadata)
	case *kmsg.FindCoordinatorRequest:
		s.anyNode(ctx, call, func(resp kmsg.Response) { s.rewriteCoordinators(req, resp) })
	case *kmsg.DescribeClusterRequest:
		s.anyNode(ctx, call, s.rewriteCluster)
	case *kmsg.DescribeConfigsRequest:
		s.describeConfigs(ctx, call, req)
	case *kmsg.AlterConfigsRequest:
		s.alterConfigs(ctx, call, req)
	case *kmsg.IncrementalAlterConfigsRequest:
		s.incrementalAlterConfigs(ctx, call, req)
	default:
		s.anyNode(ctx, call, nil)
	}
}

// go_ runs f in a goroutine that Close waits for.
func (s *session) go_(f func()) { s.wg.Go(f) }

// Close implements kafka.ForwardSession.
func (s *session) Close() {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	links := s.links
	s.links = nil
	s.mu.Unlock()
	for _, l := range links {
		l.close()
	}
	s.lanes.close()
	s.wg.Wait()
	s.standings.close()
	s.g.mu.Lock()
	delete(s.g.sessions, s)
	s.g.mu.Unlock()
}

// link is the session's connection to a node that is there.
func (s *session) link(node int32, c class) (*link, error) {
	addr, ok := s.g.view.address(node)
	if !ok {
		return nil, fmt.Errorf("node %d is not there", node)
	}
	key := linkKey{node, c}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errLinkClosed
	}
	l := s.links[key]
	if l == nil || l.broken() || l.addr != addr {
		if old := l; old != nil {
			// Not here: what fails asks for the locks that the caller has.
			s.go_(func() { old.fail(errLinkClosed) })
		}
		l = s.g.dial(node, addr)
		s.links[key] = l
	}
	return l, nil
}

// cut ends the session's connections to a node.
func (s *session) cut(node int32) {
	s.mu.Lock()
	var lost []*link
	for key, l := range s.links {
		if key.node == node {
			lost = append(lost, l)
			delete(s.links, key)
		}
	}
	s.mu.Unlock()
	for _, l := range lost {
		l.close()
	}
}

// drop ends one of the session's connections.
func (s *session) drop(l *link, c class) {
	s.mu.Lock()
	if key := (linkKey{l.node, c}); s.links[key] == l {
		delete(s.links, key)
	}
	s.mu.Unlock()
	l.fail(errLinkClosed)
}

// takes says whether a node takes the version of a request. If not the connection
// ends, since the client was told another range of versions than holds now: it asks
// again when it has connected.
func (s *session) takes(node int32, req kmsg.Request) bool {
	if s.g.view.takes(node, req.Key(), req.GetVersion()) {
		return true
	}
	s.client.Abort(fmt.Errorf("%s version %d: node %d does not take it", kmsg.NameForKey(req.Key()), req.GetVersion(), node))
	return false
}

// ask asks a node and waits, for as long as timeout.
func (s *session) ask(node int32, req kmsg.Request, clientID string, timeout time.Duration) (kmsg.Response, error) {
	if !s.takes(node, req) {
		return nil, errVersion
	}
	l, err := s.link(node, classOther)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	s.g.metrics.forwarded.WithLabelValues(kmsg.NameForKey(req.Key())).Inc()
	return s.g.ask(ctx, l, req, clientID)
}

// resolve returns the nodes that lead partitions, asking for those that nobody
// has asked for yet, until ctx ends. Those that have no leader are left to the
// caller.
func (s *session) resolve(ctx context.Context, parts []part) (nodes []int32, errs []error) {
	nodes, errs = make([]int32, len(parts)), make([]error, len(parts))
	look := func() (keys []topicKey) {
		seen := make(map[topicKey]bool)
		for i, p := range parts {
			if nodes[i], errs[i] = s.g.view.leader(p); errs[i] == errUnasked && !seen[p.topicKey] {
				seen[p.topicKey] = true
				keys = append(keys, p.topicKey)
			}
		}
		return keys
	}
	for keys := look(); len(keys) > 0; keys = look() {
		s.g.view.refresh(ctx, keys)
		if ctx.Err() != nil || s.ctx.Err() != nil {
			look()
			break
		}
		if again := look(); len(again) > 0 {
			pause(ctx, retryPause)
		}
	}
	return nodes, errs
}
