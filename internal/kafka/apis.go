package kafka

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const apiVersionsKey = 18

// api is one row of the protocol table: what is advertised and who answers.
type api struct {
	key      int16
	name     string
	min, max int16 // advertised
	flexFrom int16 // first flexible version
	shape    []field
	// keepsFrame: the handler's users alias the frame, which is not reused.
	keepsFrame bool
	// grouped: the request goes to the coordinator of a group, which keeps it,
	// byte slices that alias the frame included, and wants to know the client.
	grouped    bool
	newRequest func() kmsg.Request
	// handle starts a request, in the connection's reader. It sees to it that
	// the exchange is completed once, now or later.
	handle func(ctx context.Context, x *exchange, req kmsg.Request)

	requests prometheus.Counter
	latency  prometheus.Observer
}

func (a *api) supports(version int16) bool { return version >= a.min && version <= a.max }

// flexible says whether a version's header and body have tags.
func (a *api) flexible(version int16) bool { return version >= a.flexFrom }

// maxFrame bounds a request of this API.
func (a *api) maxFrame(l *Limits) int {
	if a.keepsFrame {
		return l.MaxRequestBytes
	}
	return l.MaxControlBytes
}

// apiTable finds APIs by key.
type apiTable struct {
	rows  []*api // in order of key
	byKey [128]*api
}

func (t *apiTable) find(key int16) *api {
	if key < 0 || int(key) >= len(t.byKey) {
		return nil
	}
	return t.byKey[key]
}

// row makes a table entry of a handler for requests of type Q. Shapes are
// explained in shape.go.
func row[T any, Q interface {
	*T
	kmsg.Request
}](minVer, maxVer int16, shape string, handle func(ctx context.Context, x *exchange, req Q)) *api {
	req := Q(new(T))
	flexFrom := int16(0)
	for ; !req.IsFlexible(); req.SetVersion(flexFrom) {
		if flexFrom++; flexFrom > req.MaxVersion() {
			break
		}
	}
	return &api{
		key: req.Key(), flexFrom: flexFrom, name: kmsg.NameForKey(req.Key()), min: minVer, max: maxVer, shape: mustShape(shape),
		newRequest: func() kmsg.Request { return Q(new(T)) },
		handle:     func(ctx context.Context, x *exchange, req kmsg.Request) { handle(ctx, x, req.(Q)) },
	}
}

// answer turns a function from request to response into a handler.
func answer[Q kmsg.Request, P kmsg.Response](f func(ctx context.Context, x *exchange, req Q) P) func(context.Context, *exchange, Q) {
	return func(ctx context.Context, x *exchange, req Q) { x.reply(f(ctx, x, req)) }
}

// newAPITable is all that the server speaks.
func newAPITable(s *Server) *apiTable {
	produce := row(0, 13, "s@3+ 2 4 [{ s@0-12 16@13+ [{ 4 y }] }]", s.produce)
	produce.keepsFrame = true
	grouped := func(a *api) *api { a.grouped = true; return a }
	t := &apiTable{rows: []*api{
		produce,
		row(2, 18, "4@0-14 4 4 4@3+ 1@4+ 4@7+ 4@7+ [{ s@0-12 16@13+ [{ 4 4@9+ 8 4@12+ 8@5+ 4 }] }] "+
			"[{ s@0-12 16@13+ [4] }]@7+ s@11+ <1: 4 8>", s.fetch),
		row(0, 11, "4 1@2+ [{ s [{ 4 4@4+ 8 4@0-0 }] }] 4@10+", s.listOffsets),
		row(0, 13, "[{ 16@10+ s }] 1@4+ 1@8-10 1@8+", answer(s.metadata)),
		grouped(row(1, 10, "s 4@1+ s@1+ s@7+ 8@2-4 [{ s@0-9 16@10+ [{ 4 8 8@1-1 4@6+ s }] }]", s.offsetCommit)),
		grouped(row(1, 10, "s@0-7 [{ s [4] }]@0-7 [{ s s@9+ 4@9+ [{ s@8-9 16@10+ [4] }] }]@8+ 1@7+", s.offsetFetch)),
		row(0, 6, "s@0-3 1@1+ [s]@4+", answer(s.findCoordinator)),
		grouped(row(0, 9, "s 4 4@1+ s s@5+ s [{ s y }] s@8+", s.joinGroup)),
		grouped(row(0, 4, "s 4 s s@3+", s.heartbeat)),
		grouped(row(0, 5, "s s@0-2 [{ s s s@5+ }]@3+", s.leaveGroup)),
		grouped(row(0, 5, "s 4 s s@3+ s@5+ s@5+ [{ s y }]", s.syncGroup)),
		grouped(row(0, 6, "[s] 1@3+", s.describeGroups)),
		grouped(row(0, 5, "[s]@4+ [s]@5+", s.listGroups)),
		row(0, 4, "s@3+ s@3+", answer(s.apiVersions)),
		row(0, 7, "[{ s 4 2 [{ 4 [4] }] [{ s s }] }] 4 1@1+", answer(s.createTopics)),
		row(0, 6, "[s]@0-5 [{ s 16 }]@6+ 4", answer(s.deleteTopics)),
		row(0, 2, "[{ s [{ 4 8 }] }] 4", s.deleteRecords),
		row(0, 5, "s 4 8@3+ 2@3+", answer(s.initProducerID)),
		row(2, 4, "4@3+ [{ s [{ 4 4@2+ 4 }] }]", s.offsetForLeaderEpoch),
		row(0, 4, "[{ 1 s [s] }] 1@1+ 1@3+", answer(s.describeConfigs)),
		row(0, 2, "[{ 1 s [{ s s }] }] 1", answer(s.alterConfigs)),
		row(0, 4, "[{ s [4] }]", answer(s.describeLogDirs)),
		row(0, 3, "[{ s 4 [{ [4] }] }] 4 1", answer(s.createPartitions)),
		grouped(row(0, 2, "[s]", s.deleteGroups)),
		row(0, 2, "1@1+ [{ s [4] }] 4", s.electLeaders),
		row(0, 1, "[{ 1 s [{ s 1 s }] }] 1", answer(s.incrementalAlterConfigs)),
		row(0, 1, "4 1@1+ [{ s [{ 4 [4] }] }]", s.alterReassignments),
		row(0, 0, "4 [{ s [4] }]", answer(s.listReassignments)),
		grouped(row(0, 0, "s [{ s [{ 4 }] }]", s.offsetDelete)),
		row(0, 2, "1 1@1+ 1@2+", answer(s.describeCluster)),
		row(0, 0, "[{ s [4] }]", s.describeProducers),
	}}
	for _, a := range t.rows {
		if s.opts.Forward != nil && a.key != apiVersionsKey {
			a.handle, a.grouped = s.forward, true
		}
		t.byKey[a.key] = a
		a.requests = s.metrics.requests.WithLabelValues(a.name)
		a.latency = s.metrics.latency.WithLabelValues(a.name)
	}
	return t
}
