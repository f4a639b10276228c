package kafka

import (
	"errors"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchTopic is a topic as a client named it; its partitions share it.
type fetchTopic struct {
	name  string // "" while the id is not known
	id    [16]byte
	byID  bool // instead of by name: from version 13 on
	round uint32
	err   error
}

func newFetchTopic(version int16, t *kmsg.FetchRequestTopic) fetchTopic {
	if version >= 13 {
		return fetchTopic{id: t.TopicID, byID: true}
	}
	return fetchTopic{name: t.Topic}
}

// resolve finds the topic, once in each round of looking. A session's topic that
// was deleted, and may have been created anew since, is told from one that was
// never known.
func (t *fetchTopic) resolve(s *Server, round uint32) error {
	if !t.byID || t.round == round {
		return t.err
	}
	t.round, t.err = round, nil
	info, ok := s.backend.TopicByID(t.id)
	if ok {
		t.name = info.Name
	} else if t.err = kerr.UnknownTopicID; t.name != "" {
		t.err = kerr.UnknownTopicOrPartition
		if _, again := s.backend.Topic(t.name); again {
			t.err = kerr.InconsistentTopicID
		}
	}
	return t.err
}

// fetchPart is one partition of a fetch, or of a session between its fetches,
// and what the last pass over it found. Whoever has the fetch has it; others
// only ring.
type fetchPart struct {
	topic *fetchTopic
	index int32

	// What the client asks.
	offset    int64
	maxBytes  int32
	epoch     int32 // of the leader that the client believes in; below 0: any
	lastEpoch int32 // of what it read last; below 0: unknown

	part    Partition
	refused error // why there is nothing to read: no part

	// What the last pass found.
	err       error
	offsets   Offsets
	data      Data // nil or not empty
	leading   bool // as a leader, not as a follower
	divergent bool // the client's log leaves ours at the end of an epoch
	endEpoch  int32
	end       int64
	preferred int32 // the broker to read from instead; -1 for none
	quiet     bool  // there was nothing to read, up to the end
	held      bool  // it was not looked at: its election is under way

	bell    chan struct{} // of the fetch or session
	watched bool          // will be rung, or was
	rung    atomic.Bool   // the watch is over

	// Of a session.
	sentHW, sentStart int64 // what the client was told last
	served            bool  // it is being given records
	forgotten         bool
}

func (p *fetchPart) init(t *fetchTopic, rp *kmsg.FetchRequestTopicPartition) {
	p.topic, p.index = t, rp.Partition
	p.sentHW, p.sentStart, p.preferred = -1, -1, -1
	p.ask(rp)
}

// ask takes over what the client wants.
func (p *fetchPart) ask(rp *kmsg.FetchRequestTopicPartition) {
	p.offset, p.maxBytes = rp.FetchOffset, rp.PartitionMaxBytes
	p.epoch, p.lastEpoch = rp.CurrentLeaderEpoch, rp.LastFetchedEpoch
	p.quiet = false
}

// resolve finds the partition.
func (p *fetchPart) resolve(s *Server, round uint32) {
	err := p.topic.resolve(s, round)
	var part Partition
	if err == nil {
		part, err = s.partition(p.topic.name, p.index)
	}
	if err != nil {
		part = nil
	}
	if part != p.part {
		p.unwatch()
		p.part, p.quiet = part, false
	}
	p.refused = err
}

// still says that nothing has changed since the last pass, which found nothing.
func (p *fetchPart) still() bool {
	if p.watched && p.rung.Load() {
		p.watched = false
		p.rung.Store(false)
		return false
	}
	return p.watched && p.quiet && p.leading // a follower's reader shows itself each time
}

// leaveAlone is read for a partition whose election is under way.
func (p *fetchPart) leaveAlone() {
	p.err, p.data, p.divergent, p.leading, p.preferred, p.quiet = kerr.NotLeaderForPartition, nil, false, false, -1, false
	p.offsets, _ = p.part.Offsets()
}

// read looks at the partition.
func (p *fetchPart) read(op *fetchOp, maxBytes int, minOne bool) {
	p.err, p.data, p.divergent, p.leading, p.preferred, p.quiet = nil, nil, false, true, -1, false
	if p.epoch >= 0 || p.lastEpoch >= 0 {
		p.offsets, p.err = leading(p.part, p.epoch)
	}
	if p.err == nil && p.lastEpoch >= 0 {
		p.diverges()
	}
	if p.err == nil && !p.divergent && op.roams() {
		if p.sendElsewhere(op); p.preferred >= 0 {
			return
		}
	}
	if p.err == nil && !p.divergent {
		p.data, p.offsets, p.err = p.part.Read(p.offset, maxBytes, minOne)
	}
	if p.err != nil && op.anyReplica() && p.lastEpoch < 0 && errors.Is(p.err, kerr.NotLeaderForPartition) {
		p.leading = false
		p.data, p.offsets, p.err = p.part.ReadFollower(p.offset, maxBytes, minOne)
	}
	if p.data != nil && (p.err != nil || p.data.Len() == 0) {
		p.data.Release()
		p.data = nil
	}
	p.quiet = p.err == nil && !p.divergent && p.offset >= p.offsets.HighWatermark
}

// diverges compares what the client read last with our epochs (KIP-595).
func (p *fetchPart) diverges() {
	e, end, err := p.part.EpochEnd(p.lastEpoch)
	switch {
	case err != nil:
		p.err = err
	case e < 0 || end < 0:
		p.err = kerr.OffsetOutOfRange // that far back we know nothing
	case e < p.lastEpoch || end < p.offset:
		p.divergent, p.endEpoch, p.end = true, e, end
	}
}

// urgent says whether the client must know what was found at once.
func (p *fetchPart) urgent() bool {
	return p.divergent || p.preferred >= 0 || p.err != nil && !errors.Is(p.err, kerr.OffsetNotAvailable)
}

// failure is the partition's error, if any.
func (p *fetchPart) failure() error {
	if p.refused != nil {
		return p.refused
	}
	return p.err
}

// news says whether a session's client has to be told of the partition. As in
// Kafka: records, an error, another high watermark or log start, another place
// to read from, a divergence.
func (p *fetchPart) news() bool {
	return p.data != nil || p.failure() != nil || p.divergent || p.preferred >= 0 ||
		p.sentHW != p.offsets.HighWatermark || p.sentStart != p.offsets.Start
}

// told notes what the client knows now. After an error it knows nothing.
func (p *fetchPart) told() {
	p.sentHW, p.sentStart = p.offsets.HighWatermark, p.offsets.Start
	if p.failure() != nil {
		p.sentHW, p.sentStart = -1, -1
	}
}

// watch has the partition ring from now on, if something has changed since the
// last pass at once.
func (p *fetchPart) watch(bell chan struct{}) {
	if p.part != nil && !p.watched {
		p.bell, p.watched = bell, true
		p.part.Watch(p, p.offsets, p.leading)
	}
}

func (p *fetchPart) unwatch() {
	if p.watched {
		if !p.rung.Load() {
			p.part.Unwatch(p)
		}
		p.watched = false
		p.rung.Store(false)
	}
}

// Ring implements Watcher.
func (p *fetchPart) Ring() {
	p.rung.Store(true)
	signal(p.bell)
}
