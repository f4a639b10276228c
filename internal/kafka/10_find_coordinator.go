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
// There is no group coordinator yet: COORDINATOR_NOT_AVAILABLE, which clients
// retry. A transactional producer must not retry for ever, so it gets an error
// that is fatal to every client.

const (
	coordinatorGroup       = 0
	coordinatorTransaction = 1
)

var (
	errNoCoordinator = Errorf(kerr.CoordinatorNotAvailable, "consumer groups are not supported yet")
	errNoSuchKind    = Errorf(kerr.InvalidRequest, "coordinators of this kind are not supported")
)

func (s *Server) findCoordinator(_ context.Context, x *exchange, req *kmsg.FindCoordinatorRequest) *kmsg.FindCoordinatorResponse {
	var err error
	switch req.CoordinatorType {
	case coordinatorGroup:
		err = errNoCoordinator
	case coordinatorTransaction:
		err = errTransactional
	default:
		err = errNoSuchKind
	}
	resp := kmsg.NewPtrFindCoordinatorResponse()
	resp.ErrorCode, resp.ErrorMessage, resp.NodeID, resp.Port = codeOf(err), messageOf(err), -1, -1
	if x.version < 4 {
		return resp
	}
	for _, key := range req.CoordinatorKeys {
		c := kmsg.NewFindCoordinatorResponseCoordinator()
		c.Key, c.ErrorCode, c.ErrorMessage, c.NodeID, c.Port = key, codeOf(err), messageOf(err), -1, -1
		resp.Coordinators = append(resp.Coordinators, c)
	}
	return resp
}
