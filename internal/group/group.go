package group

import (
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// consumerProtocol is the protocol type of consumers, whose metadata says to
// which topics they subscribe.
const consumerProtocol = "consumer"

// group is a classic group. Methods change nothing but the group; what needs
// timers, replies or writes is the machine's.
type group struct {
	name       string
	state      state
	changed    int64 // when it came into its state, ms; 0: not known
	generation int32
	kind       string  // protocol type, of the last members; "" for a group that only stores offsets
	protocol   *string // what the generation has agreed on; nil in a group without one

	members map[string]*member
	order   []*member          // by time of joining: what is done to all members is done in this order
	static  map[string]*member // by group instance id
	leader  *member            // nil without members
	pending map[string]*timer  // member ids that were given out and have not joined (KIP-394)

	votes    map[string]int // how many members offer a protocol
	joining  int            // members with a parked JoinGroup
	unsynced int            // members whose SyncGroup is missing

	// initial: the rebalance under way, if there is one, began with an empty
	// group, and waits for the initial delay even if everybody has joined.
	// newcomers: somebody came during the present delay. delay and left: the
	// present delay, and how much of the rebalance timeout is left after it.
	initial, newcomers bool
	delay, left        time.Duration

	storing bool // the generation's assignment is on its way into the log

	topics      map[string]struct{} // what the generation subscribes to
	topicsKnown bool

	offsets map[string]map[int32]*offset // by topic and partition

	logged bool // the log holds a metadata record of it, or may
	kept   bool // something of it was sent to the log, ever
	writes int  // on their way

	join, sync timer // end of the phase

	began time.Time // when the rebalance under way has begun, or the first of several in a row
	stats *Stats
}

func (g *group) become(s state, now time.Time) {
	g.enter(s)
	g.changed, g.storing = now.UnixMilli(), false
}

// supports says whether members that offer these protocols may join.
func (g *group) supports(kind string, ps []protocol) bool {
	if g.state == empty {
		return kind != "" && len(ps) > 0
	}
	return g.kind == kind && slices.ContainsFunc(ps, func(p protocol) bool { return g.votes[p.name] == len(g.order) })
}

func (g *group) add(x *member, kind string) {
	if len(g.order) == 0 {
		g.kind = kind
	}
	if g.leader == nil {
		g.leader = x
	}
	g.members[x.id] = x
	g.order = append(g.order, x)
	g.stats.Members++
	if x.instance != nil {
		g.static[*x.instance] = x
	}
	g.vote(x, +1)
}

func (g *group) vote(x *member, n int) {
	for _, p := range x.protocols {
		if g.votes[p.name] += n; g.votes[p.name] == 0 {
			delete(g.votes, p.name)
		}
	}
}

// validate is Kafka's check of who a request says it is from.
func (g *group) validate(id string, instance *string) *kerr.Error {
	if instance != nil {
		switch x := g.static[*instance]; {
		case x == nil:
			return kerr.UnknownMemberID
		case x.id != id:
			return kerr.FencedInstanceID
		}
	}
	if g.members[id] == nil {
		return kerr.UnknownMemberID
	}
	return nil
}

// allJoined says whether nobody has to be waited for.
func (g *group) allJoined() bool { return g.joining == len(g.order) && len(g.pending) == 0 }

// rebalanceTimeout is the longest of all members; what they ask for may be
// negative.
func (g *group) rebalanceTimeout() time.Duration {
	var t time.Duration
	for _, x := range g.order {
		t = max(t, x.rebalanceTimeout)
	}
	return t
}

// electJoined makes somebody leader who has joined, the present leader if it
// has. It returns false if nobody has.
func (g *group) electJoined() bool {
	if g.leader != nil && g.leader.joining() {
		return true
	}
	i := slices.IndexFunc(g.order, (*member).joining)
	if i < 0 {
		return false
	}
	g.leader = g.order[i]
	return true
}

// elect returns the protocol with the most votes among those that all members
// offer. Each member votes for the first of them in its own list; of equals the
// one that the oldest member prefers wins.
func (g *group) elect() string {
	votes := make(map[string]int)
	for _, x := range g.order {
		for _, p := range x.protocols {
			if g.votes[p.name] == len(g.order) {
				votes[p.name]++
				break
			}
		}
	}
	best, most := "", 0
	for _, p := range g.order[0].protocols {
		if votes[p.name] > most {
			best, most = p.name, votes[p.name]
		}
	}
	return best
}

// advance begins the next generation, with the members there are.
func (g *group) advance(now time.Time) {
	if g.generation == math.MaxInt32 {
		g.generation = 0
	}
	g.generation++
	if len(g.order) == 0 {
		g.protocol = nil
		g.become(empty, now)
	} else {
		name := g.elect()
		g.protocol = &name
		g.become(completing, now)
	}
	g.subscribe()
}

// subscribe finds out to which topics the generation subscribes.
func (g *group) subscribe() {
	g.topics, g.topicsKnown = nil, false
	if g.kind != consumerProtocol {
		return
	}
	topics := make(map[string]struct{})
	for _, x := range g.order {
		if g.protocol == nil || !addSubscription(topics, x.metadata(*g.protocol)) {
			return
		}
	}
	g.topics, g.topicsKnown = topics, true
}

// subscribed says whether a member may be reading the topic. A subscription
// that can't be read may be to any topic.
func (g *group) subscribed(topic string) bool {
	if !g.topicsKnown {
		return g.kind == consumerProtocol
	}
	_, yes := g.topics[topic]
	return yes
}

// answer is what a member that has joined the present generation is told.
func (g *group) answer(x *member) joined {
	j := joined{generation: g.generation, kind: g.kindOrNil(), name: g.protocol, leader: g.leader.id, member: x.id}
	if x == g.leader {
		j.members = g.roster()
	}
	return j
}

// roster is the members as the leader is told of them.
func (g *group) roster() []kmsg.JoinGroupResponseMember {
	all := make([]kmsg.JoinGroupResponseMember, len(g.order))
	for i, x := range g.order {
		all[i].MemberID, all[i].InstanceID, all[i].ProtocolMetadata = x.id, x.instance, x.metadata(*g.protocol)
	}
	return all
}

func (g *group) kindOrNil() *string {
	if g.kind == "" {
		return nil
	}
	kind := g.kind
	return &kind
}
