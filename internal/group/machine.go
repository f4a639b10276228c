package group

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Client is who sent a request, as DescribeGroups shows it.
type Client struct {
	ID   string // the client id of the request header
	Host string // the peer's address as Kafka shows it: "/1.2.3.4"
}

// Record is one record of __consumer_offsets. A nil Value is a tombstone.
type Record struct {
	Key, Value []byte
}

// Reply answers one Handle: Ref is what Handle was given. The response has the
// version of its request. What it refers to is not changed later, and must not
// be changed by the receiver.
type Reply struct {
	Ref  any
	Resp kmsg.Response
}

// Write is to be appended to the partition's log: its records in one batch, all
// or none, after the records of all earlier Writes. Its outcome is told with
// Stored. Records is never empty, and belongs to the caller.
type Write struct {
	Records []Record
	Group   string // that they are about

	done    func(err error)
	then    []func() // what waits for it and for all before
	settled bool     // its outcome is known, but not yet that of all earlier ones
	err     error
}

func (w *Write) finish(err error) {
	w.done(err)
	for _, f := range w.then {
		f()
	}
}

// Effects are what an event leads to: replies to send, and writes to append, in
// this order and after those of all earlier events.
type Effects struct {
	Replies []Reply
	Writes  []*Write
	// Rebalanced is how long rebalances have taken that have ended: from when the
	// group was no longer stable until it was again.
	Rebalanced []time.Duration
}

// Machine is the state of all groups of one partition of __consumer_offsets,
// from Load to Resign. It is not safe for concurrent use. The time that it is
// given must never go back; where it does, it stands still.
type Machine struct {
	cfg      Config
	groups   map[string]*group
	timers   timers
	expiry   timer    // the next look at the offsets' ages
	queue    []*Write // on their way, in order
	resigned bool
	stats    Stats

	// The event under way.
	now time.Time
	fx  Effects
}

// New makes a machine without groups. The configuration must be valid.
func New(cfg Config) *Machine {
	m := &Machine{cfg: cfg.WithDefaults(), groups: make(map[string]*group)}
	m.expiry.fire = m.expireOffsets
	return m
}

// Load takes in the next record of the partition's log; recovery calls it for
// each one from the log's start, in order. An error names what it can't read: a
// record that is damaged, or of a version that a newer program wrote. The
// machine is as it was before, and the caller may go on, losing what the record
// says. Records of kinds that classic groups don't use (KIP-848, share groups)
// are skipped. The machine keeps no part of the record. now is not used by the
// formats that are known.
func (m *Machine) Load(r Record, now time.Time) error {
	return m.load(r)
}

// Loaded ends recovery, once: the members of all groups get a fresh session
// timeout. Only Load comes before it and everything else after it.
func (m *Machine) Loaded(now time.Time) Effects {
	m.begin(now)
	m.timers.set(&m.expiry, m.now.Add(m.cfg.OffsetsRetentionCheck))
	for _, g := range m.sorted() {
		for _, x := range g.order {
			m.touch(x)
			x.unheard = true
		}
		m.shrink(g)
	}
	return m.end()
}

// Configure changes the configuration, which must be valid. Sessions and
// rebalances under way end as they would have; NewMemberID stays what it is.
func (m *Machine) Configure(now time.Time, cfg Config) Effects {
	if m.resigned {
		return Effects{}
	}
	m.begin(now)
	before := m.cfg
	cfg.NewMemberID = before.NewMemberID
	m.cfg = cfg.WithDefaults()
	if m.cfg.OffsetsRetention != before.OffsetsRetention || m.cfg.OffsetsRetentionCheck != before.OffsetsRetentionCheck {
		m.timers.stop(&m.expiry)
		m.timers.set(&m.expiry, m.now.Add(m.cfg.OffsetsRetentionCheck))
	}
	if m.cfg.MaxSize < before.MaxSize {
		for _, g := range m.sorted() {
			m.shrink(g)
		}
	}
	return m.end()
}

// shrink begins a rebalance of a group that has more members than it may have,
// in which the last to come stay outside.
func (m *Machine) shrink(g *group) {
	if (g.state == completing || g.state == stable) && len(g.order) > m.cfg.MaxSize {
		m.prepare(g)
	}
}

// Handle takes in one request about exactly one group: JoinGroup, SyncGroup,
// Heartbeat, LeaveGroup, OffsetCommit, OffsetFetch (Groups has one element from
// version 8 on), DescribeGroups and DeleteGroups (one name each), OffsetDelete;
// and ListGroups, which lists all groups of this machine. Any other request is a
// bug of the caller and panics.
//
// From version 10 of OffsetCommit and OffsetFetch on, the caller has put the
// topic's name into Topic beside TopicID; both come back in the response. An
// OffsetFetch of all topics gives names alone: the caller fills in their ids.
//
// ref is answered exactly once, by these Effects or later ones. The machine may
// keep req until then, and its strings for longer, but not the bytes in it: they
// are copied.
func (m *Machine) Handle(now time.Time, ref any, c Client, req kmsg.Request) Effects {
	if m.resigned {
		return Effects{Replies: []Reply{{ref, Refuse(req, kerr.NotCoordinator)}}}
	}
	m.begin(now)
	w := waiter{ref, req.GetVersion()}
	switch req := req.(type) {
	case *kmsg.JoinGroupRequest:
		m.joinGroup(w, c, req)
	case *kmsg.SyncGroupRequest:
		m.syncGroup(w, req)
	case *kmsg.HeartbeatRequest:
		m.heartbeat(w, req)
	case *kmsg.LeaveGroupRequest:
		m.leaveGroup(w, req)
	case *kmsg.OffsetCommitRequest:
		m.commit(w, req)
	case *kmsg.OffsetFetchRequest:
		m.fetchOffsets(w, req)
	case *kmsg.DescribeGroupsRequest:
		m.describe(w, req)
	case *kmsg.ListGroupsRequest:
		m.list(w, req)
	case *kmsg.DeleteGroupsRequest:
		m.deleteGroup(w, req)
	case *kmsg.OffsetDeleteRequest:
		m.deleteOffsets(w, req)
	default:
		panic("BUG: not a request about groups: " + kmsg.NameForKey(req.Key()))
	}
	return m.end()
}

// Stored tells the outcome of a Write: nil if it is committed. An error means
// that it is not in the log and never will be; its *kerr.Error, if it has one,
// decides what clients are told. Each Write's outcome is told once. It takes
// effect when those of all earlier Writes are known too, so that they may be
// told in any order. A Write whose outcome is in doubt has none: the caller must
// Resign, and Load a new machine from the log.
func (m *Machine) Stored(now time.Time, w *Write, err error) Effects {
	if m.resigned {
		return Effects{}
	}
	if w.settled {
		panic("BUG: the outcome of a write was told twice")
	}
	m.begin(now)
	w.settled, w.err = true, err
	for len(m.queue) > 0 && m.queue[0].settled {
		first := m.queue[0]
		m.queue[0] = nil
		m.queue = m.queue[1:]
		first.finish(first.err)
	}
	return m.end()
}

// Tick does what is due: sessions and rebalances time out, offsets expire.
func (m *Machine) Tick(now time.Time) Effects {
	if m.resigned {
		return Effects{}
	}
	m.begin(now)
	for t := m.timers.due(m.now); t != nil; t = m.timers.due(m.now) {
		t.fire()
	}
	return m.end()
}

// Next is when Tick is due at the latest; zero for never. It may change with
// every call of another method. A Tick that was due may find nothing to do.
func (m *Machine) Next() time.Time { return m.timers.next() }

// Resign ends the machine: the partition is led elsewhere, or what its log holds
// is in doubt. Every pending request is answered with NOT_COORDINATOR. Handle
// answers the same afterwards; Stored, Tick and RemoveTopic do nothing.
func (m *Machine) Resign(now time.Time) Effects {
	if m.resigned {
		return Effects{}
	}
	m.begin(now)
	m.resigned = true
	for _, g := range m.sorted() {
		for _, x := range g.order {
			m.answerJoins(g, x, joinError(kerr.NotCoordinator, x.id))
			m.answerSyncs(x, synced{err: kerr.NotCoordinator})
		}
		g.become(dead, m.now)
	}
	for _, w := range m.queue {
		w.finish(kerr.NotCoordinator)
	}
	fx := m.end()
	fx.Writes = nil
	*m = Machine{resigned: true}
	return fx
}

// begin and end enclose an event.
func (m *Machine) begin(now time.Time) {
	if now.After(m.now) {
		m.now = now
	}
}

func (m *Machine) end() Effects {
	fx := m.fx
	m.fx = Effects{}
	return fx
}

func (m *Machine) reply(w waiter, resp kmsg.Response) {
	resp.SetVersion(w.version)
	m.fx.Replies = append(m.fx.Replies, Reply{w.ref, resp})
}

// write sends records about g to the log. done is called with the outcome.
func (m *Machine) write(g *group, records []Record, done func(err error)) {
	g.writes++
	g.kept = true
	w := &Write{Records: records, Group: g.name, done: func(err error) {
		g.writes--
		done(err)
	}}
	m.queue = append(m.queue, w)
	m.fx.Writes = append(m.fx.Writes, w)
}

// sorted returns all groups, by name: whatever goes through all of them must do
// so in the same order each time.
func (m *Machine) sorted() []*group {
	all := make([]*group, 0, len(m.groups))
	for _, name := range slices.Sorted(maps.Keys(m.groups)) {
		all = append(all, m.groups[name])
	}
	return all
}

// open makes a group that nobody has used yet.
func (m *Machine) open(name string) *group {
	g := &group{
		name:    name,
		changed: m.now.UnixMilli(),
		members: make(map[string]*member),
		static:  make(map[string]*member),
		pending: make(map[string]*timer),
		votes:   make(map[string]int),
		offsets: make(map[string]map[int32]*offset),
		stats:   &m.stats,
	}
	m.stats.Groups[g.state]++
	g.join.fire = func() { m.joinPhaseOver(g) }
	g.sync.fire = func() { m.syncPhaseOver(g) }
	m.groups[name] = g
	return g
}

// closeUnused forgets a group that came to nothing.
func (m *Machine) closeUnused(g *group) {
	if g.state == empty && !g.kept && len(g.pending) == 0 && m.groups[g.name] == g {
		m.close(g)
	}
}
