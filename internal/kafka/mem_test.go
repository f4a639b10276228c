package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
)

// memBackend is a cluster in memory: one node that leads everything unless a
// test says otherwise.
type memBackend struct {
	mu       sync.Mutex
	brokers  []Broker
	topics   map[string]*memTopic
	changed  chan struct{}
	nextID   int
	nextPID  int64
	leaderOf func(topic string, index int32) int32 // nil: node 1
	failWith error                                 // of the next admin calls
	memAdmin
	*memGroups
}

type memTopic struct {
	info  TopicInfo
	parts []*memPartition
}

func newMemBackend() *memBackend {
	return &memBackend{topics: make(map[string]*memTopic), changed: make(chan struct{}), nextPID: 1000, memAdmin: newMemAdmin(), memGroups: newMemGroups()}
}

func (b *memBackend) ClusterID() string   { return "mem-cluster" }
func (b *memBackend) NodeID() int32       { return 1 }
func (b *memBackend) ControllerID() int32 { return 1 }

func (b *memBackend) Brokers(string) []Broker {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.brokers)
}

func (b *memBackend) Topic(name string) (TopicInfo, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.topics[name]
	if !ok {
		return TopicInfo{}, false
	}
	return t.info, true
}

func (b *memBackend) TopicByID(id [16]byte) (TopicInfo, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.topics {
		if t.info.ID == id {
			return t.info, true
		}
	}
	return TopicInfo{}, false
}

func (b *memBackend) Topics() (list []TopicInfo) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(b.topics)) {
		list = append(list, b.topics[name].info)
	}
	return list
}

func (b *memBackend) AwaitLeaders(context.Context, []string) {}

func (b *memBackend) TopicsChanged() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *memBackend) Partition(topic string, index int32) (Partition, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.topics[topic]
	if !ok || index < 0 || int(index) >= len(t.parts) {
		return nil, kerr.UnknownTopicOrPartition
	}
	if t.info.Partitions[index].Leader != b.NodeID() && !t.parts[index].isFollower() {
		return nil, kerr.NotLeaderForPartition
	}
	return t.parts[index], nil
}

func (b *memBackend) growLocked(t *memTopic, n int) {
	t.info.Partitions = slices.Clone(t.info.Partitions)
	for i := int32(len(t.parts)); int(i) < n; i++ {
		leader := int32(1)
		if b.leaderOf != nil {
			leader = b.leaderOf(t.info.Name, i)
		}
		t.parts = append(t.parts, &memPartition{epoch: 3})
		t.info.Partitions = append(t.info.Partitions, PartitionInfo{
			Index: i, Leader: leader, Epoch: 3, Replicas: []int32{1}, ISR: []int32{1},
		})
	}
}

func (b *memBackend) bumpLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *memBackend) InitProducerID(context.Context) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nextPID++
	return b.nextPID, b.failWith
}

// setLeader moves a partition's leadership.
func (b *memBackend) setLeader(topic string, index, leader, epoch int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[topic]
	t.info.Partitions = slices.Clone(t.info.Partitions)
	t.info.Partitions[index].Leader, t.info.Partitions[index].Epoch = leader, epoch
	b.bumpLocked()
	t.parts[index].setLeading(leader == 1, epoch)
}

func (b *memBackend) part(topic string, index int) *memPartition {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.topics[topic].parts[index]
}

// memPartition is a log of batches in memory.
type memPartition struct {
	mu       sync.Mutex
	batches  []memBatch
	next     int64
	start    int64
	epoch    int32
	deposed  bool
	elected  bool          // about to serve
	adrift   bool          // nobody is known to lead
	refuse   *AppendResult // of all appends
	follows  bool          // serves consumers of its rack though it does not lead
	watchers map[Watcher]bool
	armed    chan struct{} // told of each watch, unless nil
	hold     bool          // commits wait for commit()
	held     []func()      // in order
	released int           // Data given back
	lent     int           // Data handed out
}

type memBatch struct {
	base, last int64
	maxTime    int64
	bytes      []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (p *memPartition) Append(batch []byte, done func(AppendResult)) {
	p.mu.Lock()
	commit := func() { p.commitLocked(batch, done) }
	if p.refuse != nil {
		p.mu.Unlock()
		done(*p.refuse)
		return
	}
	if p.deposed {
		p.mu.Unlock()
		done(AppendResult{Err: kerr.NotLeaderForPartition})
		return
	}
	if crc32.Checksum(batch[21:], castagnoli) != binary.BigEndian.Uint32(batch[17:]) {
		p.mu.Unlock()
		done(AppendResult{Err: Errorf(kerr.CorruptMessage, "checksum does not match")})
		return
	}
	if p.hold {
		p.held = append(p.held, commit)
		p.mu.Unlock()
		return
	}
	commit()
}

// commitLocked unlocks.
func (p *memPartition) commitLocked(batch []byte, done func(AppendResult)) {
	b := slices.Clone(batch)
	base := p.next
	binary.BigEndian.PutUint64(b, uint64(base))
	binary.BigEndian.PutUint32(b[12:], uint32(p.epoch))
	p.next += int64(binary.BigEndian.Uint32(b[23:])) + 1
	p.batches = append(p.batches, memBatch{base, p.next - 1, int64(binary.BigEndian.Uint64(b[35:])), b})
	p.wakeLocked()
	start := p.start
	p.mu.Unlock()
	done(AppendResult{BaseOffset: base, LogStart: start, AppendTime: -1})
}

func (p *memPartition) wakeLocked() {
	for w := range p.watchers {
		w.Ring()
	}
	clear(p.watchers)
}

// commit lets everything held through, last first if told so.
func (p *memPartition) commit() {
	p.mu.Lock()
	held := p.held
	p.held, p.hold = nil, false
	p.mu.Unlock()
	for _, c := range held {
		p.mu.Lock()
		c()
	}
}

func (p *memPartition) setHold() {
	p.mu.Lock()
	p.hold = true
	p.mu.Unlock()
}

func (p *memPartition) heldCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held)
}

func (p *memPartition) setLeading(leading bool, epoch int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deposed, p.elected, p.adrift, p.epoch = !leading, false, false, epoch
	p.wakeLocked()
}

func (p *memPartition) offsetsLocked() Offsets {
	return Offsets{Start: p.start, HighWatermark: p.next, LastStable: p.next, Epoch: p.epoch}
}

func (p *memPartition) Read(offset int64, maxBytes int, minOne bool) (Data, Offsets, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deposed {
		return nil, p.offsetsLocked(), kerr.NotLeaderForPartition
	}
	return p.readLocked(offset, maxBytes, minOne)
}

func (p *memPartition) readLocked(offset int64, maxBytes int, minOne bool) (Data, Offsets, error) {
	o := p.offsetsLocked()
	if offset < p.start || offset > p.next {
		return nil, o, kerr.OffsetOutOfRange
	}
	d := &memData{p: p}
	i, _ := slices.BinarySearchFunc(p.batches, offset, func(b memBatch, off int64) int {
		if b.last < off {
			return -1
		}
		return 1
	})
	for _, b := range p.batches[i:] {
		if d.size+len(b.bytes) > maxBytes && !(minOne && d.size == 0) {
			break
		}
		d.bytes, d.size = append(d.bytes, b.bytes), d.size+len(b.bytes)
	}
	p.lent++
	return d, o, nil
}

type memData struct {
	p     *memPartition
	bytes [][]byte
	size  int
	gone  bool
}

func (d *memData) Bytes() [][]byte { return d.bytes }
func (d *memData) Len() int        { return d.size }
func (d *memData) Release() {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if d.gone {
		panic("BUG: data released twice")
	}
	d.gone, d.bytes = true, nil
	d.p.released++
}

func (p *memPartition) outstanding() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lent - p.released
}

func (p *memPartition) Offsets() (Offsets, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsetsLocked(), !p.deposed
}

func (p *memPartition) Unsettled(int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deposed && (p.elected || p.adrift)
}

// setElecting has no replica serve; elected says that this one is about to.
func (p *memPartition) setElecting(elected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deposed, p.elected, p.adrift = true, elected, !elected
	p.wakeLocked()
}

func (p *memPartition) ReadFollower(offset int64, maxBytes int, minOne bool) (Data, Offsets, error) {
	p.mu.Lock()
	follows, o := p.follows, p.offsetsLocked()
	p.mu.Unlock()
	switch {
	case !follows:
		return nil, o, kerr.NotLeaderForPartition
	case offset > o.HighWatermark:
		return nil, o, kerr.OffsetNotAvailable
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.readLocked(offset, maxBytes, minOne)
}

func (p *memPartition) Watch(w Watcher, seen Offsets, leading bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offsetsLocked() != seen || p.deposed == leading {
		w.Ring()
		return
	}
	if p.watchers == nil {
		p.watchers = make(map[Watcher]bool)
	}
	p.watchers[w] = true
	if p.armed != nil {
		p.armed <- struct{}{}
	}
}

func (p *memPartition) Unwatch(w Watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, w)
}

func (p *memPartition) watched() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.watchers)
}

func (p *memPartition) OffsetForTimestamp(ts int64) (int64, int64, int32, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.batches {
		if b.maxTime >= ts {
			return b.base, b.maxTime, p.epoch, true, nil
		}
	}
	return -1, -1, -1, false, nil
}

func (p *memPartition) EpochAt(int64) int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch
}

func (p *memPartition) MaxTimestamp() (off, ts int64, epoch int32, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	off, ts, epoch = -1, -1, p.epoch
	for _, b := range p.batches {
		if b.maxTime > ts {
			off, ts, ok = b.last, b.maxTime, true
		}
	}
	return off, ts, epoch, ok, nil
}

func (p *memPartition) EpochEnd(epoch int32) (int32, int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if epoch < p.epoch {
		return -1, -1, nil
	}
	return p.epoch, p.next, nil
}

// mustCreate makes a topic.
func (b *memBackend) mustCreate(name string, partitions int32) TopicInfo {
	made := b.CreateTopics(context.Background(), []CreateTopicSpec{{Name: name, Partitions: partitions, ReplicationFactor: 1}})
	if made[0].Err != nil {
		panic(fmt.Sprint("create ", name, ": ", made[0].Err))
	}
	return made[0].Info
}

func (p *memPartition) lentCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lent
}

func (p *memPartition) isFollower() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.follows
}

// setStart moves the log start, and the end to hw without batches if it is below.
func (p *memPartition) setStart(start, hw int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start, p.next = start, max(p.next, hw)
	p.wakeLocked()
}

// replace has the log hold one batch, which is new.
func (p *memPartition) replace(batch []byte) {
	p.mu.Lock()
	p.batches, p.start = p.batches[:0], p.next
	p.commitLocked(batch, func(AppendResult) {})
}
