package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator (key 10), versions 0-6
//
//	0    groups; librdkafka takes it as the sign of a broker that knows lz4
//	1    the kind of key: group, transaction, share group (6)
//	3    flexible
//	4    many keys in one request
//
// The coordinator of a group is the leader of the group's partition of
// __consumer_offsets, which the first request creates. As long as there is no
// such leader clients get COORDINATOR_NOT_AVAILABLE, which they retry. There are
// no transactions: a transactional producer must not retry for ever, so it gets
// an error that is fatal to every client.

const (
	coordinatorGroup       = 0
	coordinatorTransaction = 1
)

var errNoSuchKind = Errorf(kerr.InvalidRequest, "coordinators of this kind are not supported")

func (s *Server) findCoordinator(ctx context.Context, x *exchange, req *kmsg.FindCoordinatorRequest) *kmsg.FindCoordinatorResponse {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Limits.CreateWait)
	defer cancel()
	resp := kmsg.NewPtrFindCoordinatorResponse()
	if x.version < 4 {
		b, err := s.coordinatorOf(ctx, x, req.CoordinatorType, req.CoordinatorKey)
		s.unexpected(x, req.CoordinatorKey, err)
		resp.ErrorCode, resp.ErrorMessage, resp.NodeID, resp.Host, resp.Port = codeOf(err), messageOf(err), b.ID, b.Host, b.Port
		return resp
	}
	for _, key := range req.CoordinatorKeys {
		b, err := s.coordinatorOf(ctx, x, req.CoordinatorType, key)
		s.unexpected(x, key, err)
		c := kmsg.NewFindCoordinatorResponseCoordinator()
		c.Key, c.ErrorCode, c.ErrorMessage, c.NodeID, c.Host, c.Port = key, codeOf(err), messageOf(err), b.ID, b.Host, b.Port
		resp.Coordinators = append(resp.Coordinators, c)
	}
	return resp
}

// coordinatorOf finds the coordinator of a key and its address.
func (s *Server) coordinatorOf(ctx context.Context, x *exchange, kind int8, key string) (Broker, error) {
	none := Broker{ID: -1, Port: -1}
	switch kind {
	case coordinatorGroup:
	case coordinatorTransaction:
		return none, errTransactional
	default:
		return none, errNoSuchKind
	}
	node, err := s.backend.GroupCoordinator(ctx, key)
	if err != nil {
		return none, err
	}
	b, ok := s.live(x.conn.listener)[node]
	if !ok {
		return none, Errorf(kerr.CoordinatorNotAvailable, "the coordinator, node %d, can't be reached", node)
	}
	return b, nil
}
