package node

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// elsewhere is a node whose groups are coordinated by another one.
type elsewhere struct{}

var _ kafka.Groups = elsewhere{}

func (elsewhere) GroupCoordinator(context.Context, string) (int32, error) {
	return 0, kerr.CoordinatorNotAvailable
}

func (elsewhere) Coordinate(_ string, _ kafka.GroupClient, _ kmsg.Request, done func(kmsg.Response, error)) {
	done(nil, kerr.NotCoordinator)
}

func (elsewhere) ListGroups(_ kafka.GroupClient, _ *kmsg.ListGroupsRequest, done func([]kmsg.ListGroupsResponseGroup, error)) {
	done(nil, nil)
}
