package kafka

import (
	"context"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Groups is the part of a Backend that coordinates consumer groups.
type Groups interface {
	// GroupCoordinator names the live node that coordinates a group. While there
	// is none it fails with COORDINATOR_NOT_AVAILABLE, after having waited a
	// moment for one, until ctx ends at most.
	GroupCoordinator(ctx context.Context, group string) (node int32, err error)

	// Coordinate hands a request that is about one group to its coordinator,
	// which is on this node or else fails with NOT_COORDINATOR. done is called
	// once, on any goroutine, with the response or an error. The request belongs
	// to the backend until then. It does not block.
	//
	// Requests are JoinGroup, SyncGroup, Heartbeat, LeaveGroup, OffsetCommit,
	// OffsetFetch and OffsetDelete; DescribeGroups and DeleteGroups with one name.
	// Topics have names in them, in all versions.
	Coordinate(group string, c GroupClient, req kmsg.Request, done func(kmsg.Response, error))

	// ListGroups hands the request to every coordinator on this node; done gets
	// all groups that match, and the error of those that could not tell.
	ListGroups(c GroupClient, req *kmsg.ListGroupsRequest, done func([]kmsg.ListGroupsResponseGroup, error))
}

// GroupClient is who sent a request, as DescribeGroups shows it.
type GroupClient struct {
	ID   string // of the request's header
	Host string // the peer's address with Kafka's slash before it
}

func (x *exchange) groupClient() GroupClient {
	host, _, err := net.SplitHostPort(x.conn.remote)
	if err != nil {
		host = x.conn.remote
	}
	return GroupClient{ID: x.clientID, Host: "/" + host}
}

// coordinate answers a request about one group with what its coordinator says,
// or with what refuse makes of an error.
func coordinate[Q kmsg.Request, P kmsg.Response](s *Server, x *exchange, group string, req Q, refuse func(req Q, code int16) P) {
	s.coordinateWith(x, group, req, func(resp kmsg.Response, err error) {
		if err != nil {
			x.reply(refuse(req, codeOf(err)))
			return
		}
		x.reply(resp)
	})
}

// coordinateWith hands a request to its coordinator and counts its errors.
func (s *Server) coordinateWith(x *exchange, group string, req kmsg.Request, done func(kmsg.Response, error)) {
	s.backend.Coordinate(group, x.groupClient(), req, func(resp kmsg.Response, err error) {
		if err != nil {
			s.partitionFailed(x, group, err)
		}
		done(resp, err)
	})
}

// gather collects what the coordinators of several groups say; all is called once,
// when each of n has been settled.
type gather[T any] struct {
	mu   sync.Mutex
	got  []T
	left int
	all  func([]T)
}

func newGather[T any](n int, all func([]T)) *gather[T] {
	g := &gather[T]{got: make([]T, n), left: n, all: all}
	if n == 0 {
		all(g.got)
	}
	return g
}

func (g *gather[T]) settle(i int, v T) {
	g.mu.Lock()
	g.got[i] = v
	g.left--
	last := g.left == 0
	g.mu.Unlock()
	if last {
		g.all(g.got)
	}
}

// partitionExists says whether a topic has a partition.
func partitionExists(t *TopicInfo, index int32) bool {
	return index >= 0 && int(index) < len(t.Partitions)
}

// groupTopic finds a topic that a request of a group names, by id where that is
// how the version names it.
func (s *Server) groupTopic(byID bool, name string, id [16]byte) (TopicInfo, error) {
	if byID {
		if info, ok := s.backend.TopicByID(id); ok {
			return info, nil
		}
		return TopicInfo{}, kerr.UnknownTopicID
	}
	if info, ok := s.backend.Topic(name); ok {
		return info, nil
	}
	return TopicInfo{Name: name}, kerr.UnknownTopicOrPartition
}
