package kafkagateway

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	controlLinks = 4           // of refreshes, per node
	tellForeign  = time.Minute // that nodes of another cluster answer
)

// view is what the nodes have said: who of them is there, and who leads what.
// Topics are asked for when somebody wants them, and again when they turn out to
// have changed.
//
// Lock order: mu is a leaf.
type view struct {
	g *Gateway

	mu      sync.Mutex
	cluster string // id of the one cluster whose nodes are believed
	members map[int32]*member
	homeID  int32 // -1 for none
	topics  map[string]*topic
	names   map[[16]byte]string
	missing map[topicKey]absence
	asked   map[topicKey]chan struct{}
	groups  map[string]int32 // coordinators
	control map[[2]int32]*link
	turn    int32
	changed chan struct{} // closed with the next change

	foreign     string    // another cluster, whose nodes have answered
	foreignTold time.Time // when that was logged
}

func newView(g *Gateway) *view {
	return &view{
		g: g, homeID: -1, members: make(map[int32]*member), topics: make(map[string]*topic), names: make(map[[16]byte]string),
		missing: make(map[topicKey]absence), asked: make(map[topicKey]chan struct{}), groups: make(map[string]int32),
		control: make(map[[2]int32]*link), changed: make(chan struct{}),
	}
}

func (v *view) notifyLocked() {
	close(v.changed)
	v.changed = make(chan struct{})
}

// changes returns a channel that is closed with the next change. Take it before
// looking.
func (v *view) changes() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

var (
	errUnasked = errors.New("nobody was asked for this topic yet")
	errNoNode  = errors.New("no node can be reached")
	errVersion = errors.New("the node does not take this version")
)

// controlLink is a connection for the gateway's own questions: to the home node
// three times out of four, and else to any, in case the home node knows less.
func (v *view) controlLink() (*link, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.turn++
	node := v.homeID
	if v.turn%controlLinks == 0 {
		if up := v.upLocked(); len(up) > 0 {
			node = up[int(v.turn/controlLinks)%len(up)]
		}
	}
	m := v.members[node]
	if m == nil {
		return nil, errNoNode
	}
	key := [2]int32{node, v.turn % controlLinks}
	l := v.control[key]
	if l == nil || l.addr != m.addr || l.broken() {
		if l != nil {
			l.fail(errLinkClosed)
		}
		l = v.g.dial(node, m.addr)
		v.control[key] = l
	}
	return l, nil
}

// closeControl ends the gateway's own connections to a node.
func (v *view) closeControl(node int32) {
	v.mu.Lock()
	var links []*link
	for key, l := range v.control {
		if key[0] == node {
			links = append(links, l)
			delete(v.control, key)
		}
	}
	v.mu.Unlock()
	for _, l := range links {
		l.close()
	}
}

// home is the node that is asked what any node can answer: the same one for all
// clients, so that they see what others have just changed.
func (v *view) home() (int32, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.homeID, v.homeID >= 0
}

// awaitHome waits for a node to be there.
func (v *view) awaitHome(ctx context.Context) (int32, error) {
	for {
		changed := v.changes()
		if node, ok := v.home(); ok {
			return node, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return -1, errNoNode
		}
	}
}

// address is where a node is, if it is there.
func (v *view) address(node int32) (string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	m := v.members[node]
	if m == nil || !m.up {
		return "", false
	}
	return m.addr, true
}

// up lists the nodes that are there, in order.
func (v *view) up() []int32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.upLocked()
}

func (v *view) upLocked() []int32 {
	var up []int32
	for id, m := range v.members {
		if m.up {
			up = append(up, id)
		}
	}
	slices.Sort(up)
	return up
}

// size counts the nodes that are there, and those that are known.
func (v *view) size() (up, known int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.upLocked()), len(v.members)
}

// coordinator returns the node that coordinates a group, if that is known.
func (v *view) coordinator(group string) (int32, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	node, ok := v.groups[group]
	if m := v.members[node]; ok && (m == nil || !m.up) {
		delete(v.groups, group)
		return -1, false
	}
	return node, ok
}

// Bounds of the coordinators that are remembered.
const (
	maxGroups    = 100_000
	maxGroupName = 1 << 10
)

func (v *view) setCoordinator(group string, node int32) {
	if len(group) > maxGroupName {
		return // it is asked for each time
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.groups) >= maxGroups {
		clear(v.groups)
	}
	v.groups[group] = node
}

// forgetCoordinator has a group's coordinator looked for again, unless it is
// another one by now.
func (v *view) forgetCoordinator(group string, node int32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.groups[group] == node {
		delete(v.groups, group)
	}
}

// versions is what all nodes that are there take of an API.
func (v *view) versions(key, least, most int16) (int16, int16, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.members {
		if !m.up || m.versions == nil {
			continue
		}
		r, ok := m.versions[key]
		if !ok {
			return 0, 0, false
		}
		least, most = max(least, r[0]), min(most, r[1])
	}
	return least, most, least <= most
}

// takes says whether a node takes a version of an API.
func (v *view) takes(node int32, key, version int16) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	m := v.members[node]
	if m == nil || m.versions == nil {
		return true
	}
	r, ok := m.versions[key]
	return ok && version >= r[0] && version <= r[1]
}

// brokers takes in the nodes that one of them knows.
func (v *view) brokers(clusterID *string, brokers []kmsg.MetadataResponseBroker) bool {
	v.mu.Lock()
	if clusterID == nil || *clusterID == "" {
		v.mu.Unlock()
		return false
	}
	if v.cluster == "" {
		v.cluster = *clusterID
	}
	if want := v.cluster; want != *clusterID {
		tell := v.foreign != *clusterID || time.Since(v.foreignTold) > tellForeign
		if v.foreign = *clusterID; tell {
			v.foreignTold = time.Now()
		}
		v.mu.Unlock()
		if tell {
			v.g.log.Error("a node of another cluster answers: nothing is sent there; if the cluster was made anew, start the gateway again", "cluster", *clusterID, "want", want)
		}
		return false
	}
	var begin []*member
	for i := range brokers {
		b := &brokers[i]
		if b.NodeID < 1 || b.Host == "" {
			continue
		}
		addr := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		m := v.members[b.NodeID]
		if m == nil {
			m = &member{id: b.NodeID, seen: time.Now()}
			v.members[b.NodeID] = m
			begin = append(begin, m)
		}
		if !m.up {
			m.addr = addr
		}
		m.seen = time.Now()
	}
	v.mu.Unlock()
	for _, m := range begin {
		v.g.background(func(ctx context.Context) { v.watch(ctx, m) })
	}
	return true
}

// chooseHomeLocked takes the wanted node, else keeps the home node, as long as it
// is there and as well known to the others as any.
func (v *view) chooseHomeLocked() {
	votes := make(map[int32]int)
	for _, m := range v.members {
		if m.up {
			for _, id := range m.lists {
				votes[id]++
			}
		}
	}
	best := int32(-1)
	for _, id := range slices.Sorted(maps.Keys(v.members)) {
		if v.members[id].up && (best < 0 || votes[id] > votes[best]) {
			best = id
		}
	}
	for _, id := range []int32{v.g.opts.Home(), v.homeID} {
		if m := v.members[id]; m != nil && m.up && votes[id] >= votes[best] {
			best = id
			break
		}
	}
	v.homeID = best
}
