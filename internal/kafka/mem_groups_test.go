package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/group"
)

// memGroups coordinates all groups with one machine whose writes are stored at
// once.
type memGroups struct {
	mu       sync.Mutex
	m        *group.Machine
	ids      int
	node     int32        // the coordinator, 0 for none
	fail     error        // of the next requests
	requests []groupAsked // in order
	log      []group.Record
	now      time.Time
}

type groupAsked struct {
	group  string
	client GroupClient
	req    kmsg.Request
}

func newMemGroups() *memGroups {
	g := &memGroups{node: 1, now: time.UnixMilli(1_700_000_000_000)}
	g.m = group.New(group.Config{
		InitialRebalanceDelay: -1,
		NewMemberID: func(client string) string {
			g.ids++
			return fmt.Sprintf("%s-%d", client, g.ids)
		},
	}.WithDefaults())
	g.m.Loaded(g.now)
	return g
}

type memDone func(kmsg.Response, error)

func (g *memGroups) GroupCoordinator(context.Context, string) (int32, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.node == 0 {
		return 0, Errorf(kerr.CoordinatorNotAvailable, "no leader")
	}
	return g.node, nil
}

func (g *memGroups) Coordinate(name string, c GroupClient, req kmsg.Request, done func(kmsg.Response, error)) {
	g.mu.Lock()
	g.requests = append(g.requests, groupAsked{name, c, req})
	if g.fail != nil {
		err := g.fail
		g.mu.Unlock()
		done(nil, err)
		return
	}
	replies := g.settleLocked(g.m.Handle(g.now, memDone(done), group.Client(c), req))
	g.mu.Unlock()
	for _, r := range replies {
		r.Ref.(memDone)(r.Resp, nil)
	}
}

// settleLocked stores what the machine writes, and what that leads to.
func (g *memGroups) settleLocked(fx group.Effects) []group.Reply {
	replies := fx.Replies
	for _, w := range fx.Writes {
		g.log = append(g.log, w.Records...)
		replies = append(replies, g.settleLocked(g.m.Stored(g.now, w, nil))...)
	}
	return replies
}

// pass lets time go by.
func (g *memGroups) pass(d time.Duration) {
	g.mu.Lock()
	g.now = g.now.Add(d)
	replies := g.settleLocked(g.m.Tick(g.now))
	g.mu.Unlock()
	for _, r := range replies {
		r.Ref.(memDone)(r.Resp, nil)
	}
}

func (g *memGroups) ListGroups(c GroupClient, req *kmsg.ListGroupsRequest, done func([]kmsg.ListGroupsResponseGroup, error)) {
	g.Coordinate("", c, req, func(resp kmsg.Response, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(resp.(*kmsg.ListGroupsResponse).Groups, nil)
	})
}

// set makes the next requests fail.
func (g *memGroups) set(err error) {
	g.mu.Lock()
	g.fail = err
	g.mu.Unlock()
}
