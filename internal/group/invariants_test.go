package group

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// effects takes in what an event led to.
func (w *world) effects(fx Effects) {
	for _, r := range fx.Replies {
		ref := r.Ref.(int)
		a, owed := w.owed[ref]
		if !owed {
			w.t.Errorf("seed %d: request %d was answered twice, or never asked", w.seed, ref)
			continue
		}
		delete(w.owed, ref)
		w.seen.Write(r.Resp.AppendTo(nil))
		w.answered(a, r.Resp)
	}
	for _, one := range fx.Writes {
		if len(one.Records) == 0 {
			w.t.Errorf("seed %d: an empty write", w.seed)
		}
		for _, r := range one.Records {
			w.seen.Write(r.Key)
			w.seen.Write(r.Value)
		}
		w.inFlight, w.order = append(w.inFlight, one), append(w.order, one)
	}
}

// answered checks an answer, and lets its client go on with it.
func (w *world) answered(a asked, resp kmsg.Response) {
	if resp.GetVersion() != a.req.GetVersion() || resp.Key() != a.req.Key() {
		w.t.Errorf("seed %d: %T of version %d for %T of version %d", w.seed, resp, resp.GetVersion(), a.req, a.req.GetVersion())
	}
	switch resp := resp.(type) {
	case *kmsg.JoinGroupResponse:
		w.joined(a.c, resp)
	case *kmsg.SyncGroupResponse:
		req := a.req.(*kmsg.SyncGroupRequest)
		want := fmt.Sprintf("%s/%d", req.Group, req.Generation)
		if got := string(resp.MemberAssignment); resp.ErrorCode == 0 && got != "" && got != want {
			w.t.Errorf("seed %d: a member of %s got the assignment of %s", w.seed, want, got)
		}
		w.failed(a.c, resp.ErrorCode)
	case *kmsg.HeartbeatResponse:
		w.failed(a.c, resp.ErrorCode)
	}
}

func (w *world) joined(c *client, resp *kmsg.JoinGroupResponse) {
	switch resp.ErrorCode {
	case 0:
		c.id, c.generation, c.protocol = resp.MemberID, resp.Generation, *resp.Protocol
		c.leads = len(resp.Members) > 0 && !resp.SkipAssignment
		at := fmt.Sprintf("%s/%d", c.group, resp.Generation)
		if g := w.m.groups[c.group]; g != nil { // a deleted group begins anew
			at = fmt.Sprintf("%p/%d", g, resp.Generation)
		}
		if p, ok := w.protocols[at]; ok && p != *resp.Protocol {
			w.t.Errorf("seed %d: generation %s has protocols %s and %s", w.seed, at, p, *resp.Protocol)
		}
		w.protocols[at] = *resp.Protocol
		if (resp.LeaderID == resp.MemberID) != (len(resp.Members) > 0) {
			w.t.Errorf("seed %d: %s is told of leader %s and %d members", w.seed, resp.MemberID, resp.LeaderID, len(resp.Members))
		}
	case kerr.MemberIDRequired.Code:
		c.id = resp.MemberID
	default:
		w.failed(c, resp.ErrorCode)
	}
}

func (w *world) failed(c *client, code int16) {
	switch code {
	case kerr.UnknownMemberID.Code, kerr.FencedInstanceID.Code:
		c.id, c.generation, c.leads = "", -1, false
	}
}

// check is what must hold after every event.
func (w *world) check() {
	for name, g := range w.m.groups {
		if g.name != name {
			w.t.Errorf("seed %d: group %s is at %s", w.seed, g.name, name)
		}
		if err := consistent(w.m, g); err != nil {
			w.t.Errorf("seed %d: group %s, %v: %v", w.seed, name, g.state, err)
		}
		if g.generation < w.generations[g] {
			w.t.Errorf("seed %d: group %s goes back from generation %d to %d", w.seed, name, w.generations[g], g.generation)
		}
		w.generations[g] = g.generation
		if g.writes == 0 && !w.stale[name] && (g.state == stable || g.state == empty) {
			w.log.checkGroup(w.t, g)
		}
	}
	w.log.check(w.t, w.m)
	w.checkStats()
}

// checkStats compares what the machine counts with what there is.
func (w *world) checkStats() {
	if w.m.resigned {
		return
	}
	have, want := w.m.Stats(), Stats{}
	for _, g := range w.m.groups {
		want.Groups[g.state]++
		want.Members += len(g.order)
	}
	if have.Groups != want.Groups || have.Members != want.Members {
		w.t.Errorf("seed %d: counted %+v, there are %+v", w.seed, have, want)
	}
	last := w.stats
	if have.Rebalances < last.Rebalances || have.ExpiredMembers < last.ExpiredMembers || have.Commits < last.Commits || have.ExpiredOffsets < last.ExpiredOffsets {
		w.t.Errorf("seed %d: counts go back from %+v to %+v", w.seed, last, have)
	}
	w.stats = have
}

// consistent checks a group against itself.
func consistent(m *Machine, g *group) error {
	joining, unsynced, votes, static := 0, 0, map[string]int{}, 0
	for _, x := range g.order {
		if g.members[x.id] != x {
			return fmt.Errorf("%s is not a member", x.id)
		}
		if x.instance != nil {
			static++
			if g.static[*x.instance] != x {
				return fmt.Errorf("%s is not instance %s", x.id, *x.instance)
			}
		}
		if x.joining() {
			joining++
		}
		if x.unsynced {
			unsynced++
		}
		for _, p := range x.protocols {
			votes[p.name]++
		}
		if x.session.pos == 0 || m.timers.heap[x.session.pos-1] != &x.session {
			return fmt.Errorf("%s has no session", x.id)
		}
		if len(x.syncs) > 0 && g.state != completing {
			return fmt.Errorf("%s waits for an assignment", x.id)
		}
		if x.joining() && g.state == completing {
			return fmt.Errorf("%s waits for a rebalance", x.id)
		}
		if x.joining() && g.state == stable && (x.instance == nil || g.writes == 0) {
			return fmt.Errorf("%s waits for nothing", x.id)
		}
	}
	none := len(g.order) == 0
	switch {
	case joining != g.joining, unsynced != g.unsynced, len(g.members) != len(g.order), static != len(g.static), !maps.Equal(votes, g.votes):
		return fmt.Errorf("it has %d joining, %d unsynced, %d members, %d static, votes %v", joining, unsynced, len(g.order), static, votes)
	case none != (g.leader == nil), !none && g.members[g.leader.id] != g.leader:
		return fmt.Errorf("its leader is %v", g.leader)
	case (g.state == empty || g.state == dead) && !none, (g.state == stable || g.state == completing) && (none || g.protocol == nil):
		return fmt.Errorf("it has %d members", len(g.order))
	case (g.state == preparing) != (g.join.pos != 0):
		return fmt.Errorf("its rebalance ends: %v", g.join.pos != 0)
	case g.state == completing && g.sync.pos == 0 && !g.storing, g.unsynced > 0 && g.sync.pos == 0:
		return fmt.Errorf("nobody waits for SyncGroups")
	case g.state != completing && g.state != stable && (g.sync.pos != 0 || g.unsynced > 0):
		return fmt.Errorf("it waits for SyncGroups")
	case g.state == preparing && !g.initial && g.allJoined():
		return fmt.Errorf("all have joined")
	case g.state == dead && g.writes == 0:
		return fmt.Errorf("nobody deletes it")
	}
	for topic, partitions := range g.offsets {
		for partition, o := range partitions {
			if o.pending < 0 || !o.known && o.pending == 0 {
				return fmt.Errorf("offset of %s/%d: %+v", topic, partition, o)
			}
		}
	}
	return nil
}

// model is what a log says, read with kmsg and nothing of this package.
type model struct {
	offsets map[string]int64
	groups  map[string]kmsg.GroupMetadataValue
}

func newModel() model {
	return model{map[string]int64{}, map[string]kmsg.GroupMetadataValue{}}
}

func groupOf(r Record) string {
	var k kmsg.GroupMetadataKey
	_ = k.ReadFrom(r.Key)
	return k.Group
}

func (l model) apply(t *testing.T, r Record) {
	if r.Key[1] == keyGroup {
		var v kmsg.GroupMetadataValue
		switch name := groupOf(r); {
		case r.Value == nil:
			delete(l.groups, name)
		case v.ReadFrom(r.Value) != nil:
			t.Errorf("a record of group %s can't be read", name)
		default:
			l.groups[name] = v
		}
		return
	}
	var k kmsg.OffsetCommitKey
	var v kmsg.OffsetCommitValue
	if err := k.ReadFrom(r.Key); err != nil {
		t.Error(err)
	}
	where := fmt.Sprintf("%s %s/%d", k.Group, k.Topic, k.Partition)
	if r.Value == nil {
		delete(l.offsets, where)
		return
	}
	if err := v.ReadFrom(r.Value); err != nil {
		t.Error(err)
	}
	l.offsets[where] = v.Offset
}

// check compares all offsets of a machine with the log.
func (l model) check(t *testing.T, m *Machine) {
	have := map[string]int64{}
	for _, g := range m.groups {
		for topic, partitions := range g.offsets {
			for partition, o := range partitions {
				if o.known {
					have[fmt.Sprintf("%s %s/%d", g.name, topic, partition)] = o.offset
				}
			}
		}
	}
	if !maps.Equal(have, l.offsets) {
		t.Errorf("offsets are %v, in the log %v", have, l.offsets)
	}
}

// checkGroup compares a group that is stable or empty, with nothing on its way,
// with the log.
func (l model) checkGroup(t *testing.T, g *group) {
	v, logged := l.groups[g.name]
	if g.logged != logged {
		t.Errorf("group %s is in the log: %v", g.name, logged)
	}
	if !logged {
		return
	}
	var have, want strings.Builder
	fmt.Fprint(&have, g.state, g.generation, g.kind, g.leader == nil)
	state := stable
	if len(v.Members) == 0 {
		state = empty
	}
	fmt.Fprint(&want, state, v.Generation, v.ProtocolType, v.Leader == nil)
	for _, x := range g.order {
		fmt.Fprintf(&have, " %s %q %v %v", x.id, assigned(x), x.sessionTimeout.Milliseconds(), x == g.leader)
	}
	for _, x := range v.Members {
		fmt.Fprintf(&want, " %s %q %v %v", x.MemberID, x.Assignment, x.SessionTimeoutMillis, x.MemberID == *v.Leader)
	}
	if have.String() != want.String() {
		t.Errorf("group %s is\n%s, in the log\n%s", g.name, have.String(), want.String())
	}
}
