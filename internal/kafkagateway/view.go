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

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	refreshTimeout = 3 * time.Second
	missingFor     = 300 * time.Millisecond // a topic that is not there is not asked for again
	maxMissing     = 10_000
	maxTopics      = 200_000 // that are remembered
	maxTopicName   = 249
	maxAsked       = 1000                   // topics in one question
	barredFor      = 100 * time.Millisecond // a leader that says that it is none
	epochsFor      = 5 * time.Second        // an older leader epoch is not believed
	controlLinks   = 4                      // of refreshes, per node
	tellForeign    = time.Minute            // that nodes of another cluster answer
)

// topicKey names a topic, by id where the name is empty.
type topicKey struct {
	name string
	id   [16]byte
}

// part names a partition as a request does.
type part struct {
	topicKey
	index int32
}

// topic is what is known of one.
type topic struct {
	name  string
	id    [16]byte
	parts []leading
	at    time.Time
}

// leading says who leads a partition.
type leading struct {
	node  int32 // -1 for none
	epoch int32
	told  time.Time // when a node said so last

	barred      int32 // said that it does not lead
	barredEpoch int32
	barredUntil time.Time
}

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

// absence is why a topic can't be used, and until when that is believed.
type absence struct {
	err   error
	until time.Time
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

// leader returns the node that leads a partition, if it is there. Errors are
// errUnasked; LEADER_NOT_AVAILABLE; or a final one.
func (v *view) leader(p part) (int32, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	name := p.name
	if name == "" {
		name = v.names[p.id]
	}
	t := v.topics[name]
	switch {
	case len(name) > maxTopicName:
		return -1, kerr.InvalidTopicException
	case t == nil || p.name == "" && t.id != p.id:
		if a, ok := v.missing[p.topicKey]; ok && time.Now().Before(a.until) {
			return -1, a.err
		}
		return -1, errUnasked
	case p.index < 0 || int(p.index) >= len(t.parts):
		if time.Since(t.at) > missingFor {
			return -1, errUnasked
		}
		return -1, kerr.UnknownTopicOrPartition
	}
	l := &t.parts[p.index]
	if m := v.members[l.node]; m == nil || !m.up {
		return -1, kerr.LeaderNotAvailable
	}
	return l.node, nil
}

// suspect notes that a node does not lead a partition, or is not there.
func (v *view) suspect(p part, node int32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l := v.partLocked(p); l != nil && l.node == node {
		l.barred, l.barredEpoch, l.barredUntil = node, l.epoch, time.Now().Add(barredFor)
		l.node = -1
	}
}

// hint takes in who a node says leads a partition in its stead.
func (v *view) hint(p part, node, epoch int32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.partLocked(p)
	if l == nil || node < 0 || epoch <= l.epoch || v.members[node] == nil {
		return
	}
	l.node, l.epoch, l.told = node, epoch, time.Now()
	v.notifyLocked()
}

func (v *view) partLocked(p part) *leading {
	name := p.name
	if name == "" {
		name = v.names[p.id]
	}
	if t := v.topics[name]; t != nil && p.index >= 0 && int(p.index) < len(t.parts) {
		return &t.parts[p.index]
	}
	return nil
}

// learn takes in what a node has said of topics.
func (v *view) learn(topics []kmsg.MetadataResponseTopic) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range topics {
		t := &topics[i]
		key, err := topicKey{id: t.TopicID}, kerr.ErrorForCode(t.ErrorCode)
		if t.Topic != nil {
			key = topicKey{name: *t.Topic}
		}
		switch {
		case err == nil && t.Topic != nil:
			v.learnLocked(t, now)
		case final(err) && t.ErrorCode != kerr.UnknownServerError.Code:
			v.forgetLocked(key, err, now)
		}
	}
	v.notifyLocked()
}

func (v *view) forgetLocked(key topicKey, why error, now time.Time) {
	if len(key.name) > maxTopicName {
		return
	}
	if len(v.missing) >= maxMissing {
		clear(v.missing)
	}
	v.missing[key] = absence{why, now.Add(missingFor)}
	name := key.name
	if name == "" {
		name = v.names[key.id]
	}
	if t := v.topics[name]; t != nil {
		delete(v.topics, name)
		delete(v.names, t.id)
	}
}

func (v *view) learnLocked(t *kmsg.MetadataResponseTopic, now time.Time) {
	old := v.topics[*t.Topic]
	next := &topic{name: *t.Topic, id: t.TopicID, at: now}
	if old != nil && t.TopicID == [16]byte{} { // asked in a version without ids
		next.id = old.id
	}
	if old != nil && old.id != next.id {
		delete(v.names, old.id)
		old = nil
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Partition < 0 || int(p.Partition) >= len(t.Partitions) {
			return // not a whole answer
		}
	}
	next.parts = make([]leading, len(t.Partitions))
	for i := range t.Partitions {
		p := &t.Partitions[i]
		l := leading{node: p.Leader, epoch: p.LeaderEpoch, told: now, barred: -1}
		if old != nil && int(p.Partition) < len(old.parts) {
			was := old.parts[p.Partition]
			if was.node >= 0 && was.epoch > l.epoch && now.Sub(was.told) < epochsFor {
				l = was
			}
			if l.node == was.barred && l.epoch <= was.barredEpoch && now.Before(was.barredUntil) {
				l.node = -1
			}
			l.barred, l.barredEpoch, l.barredUntil = was.barred, was.barredEpoch, was.barredUntil
		}
		next.parts[p.Partition] = l
	}
	if old == nil && len(v.topics) >= maxTopics { // long gone ones, most of them
		clear(v.topics)
		clear(v.names)
	}
	v.topics[next.name] = next
	if next.id != [16]byte{} {
		v.names[next.id] = next.name
	}
	delete(v.missing, topicKey{name: next.name})
	delete(v.missing, topicKey{id: next.id})
}

// refresh asks a node about topics, unless somebody is doing that already, and
// waits for the answer or ctx.
func (v *view) refresh(ctx context.Context, keys []topicKey) {
	var wait []chan struct{}
	var ask []topicKey
	done := make(chan struct{})
	v.mu.Lock()
	for _, k := range keys {
		if ch, under := v.asked[k]; under {
			if ch != done {
				wait = append(wait, ch)
			}
			continue
		}
		v.asked[k] = done
		ask = append(ask, k)
	}
	v.mu.Unlock()
	if len(ask) > 0 {
		wait = append(wait, done)
		if !v.g.background(func(ctx context.Context) {
			v.ask(ctx, ask)
			v.asking(ask, done)
		}) {
			v.asking(ask, done)
		}
	}
	for _, ch := range wait {
		select {
		case <-ch:
		case <-ctx.Done():
			return
		}
	}
}

func (v *view) asking(keys []topicKey, done chan struct{}) {
	v.mu.Lock()
	for _, k := range keys {
		delete(v.asked, k)
	}
	v.mu.Unlock()
	close(done)
}

func (v *view) ask(ctx context.Context, keys []topicKey) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	for some := range slices.Chunk(keys, maxAsked) { // a node takes no request of any size
		v.askSome(ctx, some)
	}
}

func (v *view) askSome(ctx context.Context, keys []topicKey) {
	req := metadataRequest()
	for _, k := range keys {
		t := kmsg.NewMetadataRequestTopic()
		if t.TopicID = k.id; k.name != "" {
			t.Topic = kmsg.StringPtr(k.name)
		}
		req.Topics = append(req.Topics, t)
	}
	v.g.metrics.refreshes.Inc()
	l, err := v.controlLink()
	if err != nil {
		return
	}
	resp, err := v.g.ask(ctx, l, req, gatewayClient)
	if err != nil {
		v.g.log.Debug("a node did not say who leads", "node", l.node, "err", err)
		return
	}
	v.learn(resp.(*kmsg.MetadataResponse).Topics)
}

// metadataRequest asks about no topic and creates none.
func metadataRequest() *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	req.Topics = []kmsg.MetadataRequestTopic{}
	return req
}

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
