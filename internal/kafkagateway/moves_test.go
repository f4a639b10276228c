package kafkagateway

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// A group's coordinator moves. A client asks for it in an old version, or asks another
// gateway: either way its next request reaches the new one.
func TestCoordinatorMoves(t *testing.T) {
	for _, c := range []struct {
		name string
		asks func(s *script, p *producer)
	}{
		{"asked for in version 2", func(_ *script, p *producer) {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.Version, req.CoordinatorKey = 2, "g"
			if r := p.ask(req).(*kmsg.FindCoordinatorResponse); r.ErrorCode != 0 || r.NodeID != NodeID {
				t.Errorf("%+v", r)
			}
		}},
		{"asked for at another gateway", func(s *script, p *producer) {
			req := kmsg.NewPtrHeartbeatRequest()
			req.Version, req.Group = 4, "g"
			if r := p.ask(req).(*kmsg.HeartbeatResponse); r.ErrorCode != kerr.NotCoordinator.Code {
				t.Errorf("%v", kerr.ErrorForCode(r.ErrorCode))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t)
			p := s.producer()
			beat := func(want int16) {
				t.Helper()
				req := kmsg.NewPtrHeartbeatRequest()
				req.Version, req.Group = 4, "g"
				if r := p.ask(req).(*kmsg.HeartbeatResponse); r.ErrorCode != want {
					t.Errorf("%v", kerr.ErrorForCode(r.ErrorCode))
				}
			}
			beat(0)
			s.mu.Lock()
			s.coordinator = 2
			s.mu.Unlock()
			c.asks(s, p)
			beat(0)
		})
	}
}

// Errors are found in all versions of the answers of groups.
func TestGroupCode(t *testing.T) {
	for _, key := range []int16{8, 9, 11, 12, 13, 14, 47} {
		for v := int16(0); v <= kmsg.RequestForKey(key).MaxVersion(); v++ {
			req := kmsg.RequestForKey(key)
			req.SetVersion(v)
			switch req := req.(type) {
			case *kmsg.OffsetCommitRequest:
				req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}
			case *kmsg.OffsetFetchRequest:
				req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
				if v >= 8 {
					req.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g"}}
				}
			}
			resp := refuseGroup(req, kerr.NotCoordinator.Code)
			resp.SetVersion(v)
			if code := groupCode(req, resp.AppendTo(nil)); code != kerr.NotCoordinator.Code {
				t.Errorf("%s version %d: %d", kmsg.NameForKey(key), v, code)
			}
			if code := groupCode(req, nil); code != 0 {
				t.Errorf("%s version %d: %d in nothing", kmsg.NameForKey(key), v, code)
			}
		}
	}
}

// A node whose address leads to another one is not taken for it.
func TestAnotherNodeAtTheAddress(t *testing.T) {
	s := newScript(t)
	var swapped atomic.Bool
	var dials atomic.Int32
	swapped.Store(true)
	s.dial = func(ctx context.Context, addr string) (net.Conn, error) {
		if addr == s.ln[1].Addr().String() && swapped.Load() {
			dials.Add(1)
			addr = s.ln[0].Addr().String()
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
	g, _ := s.gateway()
	testetcd.Eventually(t, "node 2's address to be tried", func() bool { return dials.Load() >= 3 })
	if up := g.view.up(); !slices.Equal(up, []int32{1}) {
		t.Errorf("nodes %v are there", up)
	}
	swapped.Store(false)
	testetcd.Eventually(t, "node 2", func() bool { return slices.Equal(g.view.up(), []int32{1, 2}) })
}

// A node that comes with fewer versions than the client was told ends the connection:
// the client asks for the versions again. It is not told that its own is unknown, which
// is fatal to producers.
func TestFewerVersions(t *testing.T) {
	s := newScript(t)
	var most atomic.Int32
	most.Store(9)
	s.most = func(int32) int16 { return int16(most.Load()) }
	p := s.producer()
	p.send(7, 0)
	if _, _, code := p.receive(); code != 0 {
		t.Fatal(kerr.ErrorForCode(code))
	}
	most.Store(8)
	p.g.view.mu.Lock()
	for _, m := range p.g.view.members { // as after a restart
		m.versions = map[int16][2]int16{0: {0, 8}}
	}
	p.g.view.mu.Unlock()
	p.send(7, 1)
	if _, err := p.br.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection goes on: %v", err)
	}
}

// Batches are under way to a node while its address changes: they go to the new one,
// once and in order.
func TestAddressChanges(t *testing.T) {
	s := newScript(t)
	hold, held := make(chan struct{}), make(chan struct{}, 10)
	s.before = func() { held <- struct{}{}; <-hold }
	p := s.producer()
	p.send(7, 0)
	<-held
	v := p.g.view
	v.mu.Lock()
	v.members[1].addr = strings.Replace(v.members[1].addr, "127.0.0.1", "localhost", 1)
	v.mu.Unlock()
	p.send(7, 1)
	<-held // the first one again
	close(hold)
	for i := range int32(2) {
		if at, offset, code := p.receive(); at != i || offset != int64(i) || code != 0 {
			t.Errorf("answer to %d: offset %d, %v", at, offset, kerr.ErrorForCode(code))
		}
	}
}

// A leader with a higher epoch is believed for a while, not for ever: the partition may
// have begun anew.
func TestOlderEpochInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newView(nil)
		v.members[1], v.members[2] = &member{id: 1, up: true}, &member{id: 2, up: true}
		say := func(node, epoch int32) {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Leader, p.LeaderEpoch = node, epoch
			rt := kmsg.NewMetadataResponseTopic()
			rt.Topic, rt.TopicID = kmsg.StringPtr("t"), [16]byte{1}
			rt.Partitions = append(rt.Partitions, p)
			v.learn([]kmsg.MetadataResponseTopic{rt})
		}
		at := part{topicKey{name: "t"}, 0}
		say(1, 7)
		for range 4 {
			time.Sleep(time.Second)
			say(2, 3)
			if node, err := v.leader(at); node != 1 || err != nil {
				t.Fatalf("%d, %v", node, err)
			}
		}
		time.Sleep(2 * time.Second)
		say(2, 3)
		if node, err := v.leader(at); node != 2 || err != nil {
			t.Errorf("%d, %v", node, err)
		}
	})
}

// A topic whose name is refused is not looked for again and again.
func TestRefusedTopic(t *testing.T) {
	v := newView(nil)
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.ErrorCode = kmsg.StringPtr("a/b"), kerr.InvalidTopicException.Code
	v.learn([]kmsg.MetadataResponseTopic{rt})
	for _, name := range []string{"a/b", strings.Repeat("x", 300)} {
		if _, err := v.leader(part{topicKey{name: name}, 0}); !errors.Is(err, kerr.InvalidTopicException) || !final(err) {
			t.Errorf("%.10s: %v", name, err)
		}
	}
	rt.ErrorCode, rt.Topic = kerr.LeaderNotAvailable.Code, kmsg.StringPtr("new")
	v.learn([]kmsg.MetadataResponseTopic{rt})
	if _, err := v.leader(part{topicKey{name: "new"}, 0}); !errors.Is(err, errUnasked) {
		t.Errorf("one that is being made: %v", err)
	}
}

// A gateway that finds another cluster in the place of its own says so.
func TestAnotherCluster(t *testing.T) {
	g, _ := newScript(t).gateway()
	testetcd.Eventually(t, "a node", func() bool { return g.Ready() == nil })
	g.view.mu.Lock()
	g.view.cluster = "former"
	g.view.mu.Unlock()
	testetcd.Eventually(t, "the nodes to be refused", func() bool {
		err := g.Ready()
		return err != nil && strings.Contains(err.Error(), "start the gateway again")
	})
}
