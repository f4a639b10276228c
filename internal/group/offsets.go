package group

// committed is an offset as OffsetFetch sees it.
type committed struct {
	offset   int64
	epoch    int32 // of the leader that gave the last record consumed; -1: not known
	metadata *string
	at       int64    // when it was committed, ms
	expires  int64    // when the client wanted it to expire (OffsetCommit 2-4), ms; -1: as configured
	topicID  [16]byte // zero: not known
}

// offset is what a group has committed for a partition. While writes about it
// are on their way it may say less than the log will.
type offset struct {
	committed
	known   bool // there is a committed offset
	pending int  // commits and tombstones on their way
}

var noMetadata = new(string)

// interned saves the allocation for the metadata that nearly all have.
func interned(metadata string) *string {
	if metadata == "" {
		return noMetadata
	}
	return &metadata
}

// slot is the place for a partition's offset.
func (g *group) slot(topic string, partition int32) *offset {
	partitions := g.offsets[topic]
	if partitions == nil {
		partitions = make(map[int32]*offset)
		g.offsets[topic] = partitions
	}
	o := partitions[partition]
	if o == nil {
		o = new(offset)
		partitions[partition] = o
	}
	return o
}

// settle notes that a write about the offset has come to an end.
func (g *group) settle(topic string, partition int32, o *offset) {
	if o.pending--; o.pending == 0 && !o.known {
		g.drop(topic, partition)
	}
}

func (g *group) drop(topic string, partition int32) {
	delete(g.offsets[topic], partition)
	if len(g.offsets[topic]) == 0 {
		delete(g.offsets, topic)
	}
}

// place names a partition.
type place struct {
	topic     string
	partition int32
}

// maxTombstones bounds the records of one Write of tombstones, which is nobody's
// request and may be about any number of offsets.
const maxTombstones = 1000

// forget writes tombstones for offsets that the group has or will have: those
// on their way too, for they come before in the log. done is called once, when
// the outcome of all is known, with the first error.
func (m *Machine) forget(g *group, places []place, done func(err error)) {
	if len(places) == 0 {
		done(nil)
		return
	}
	chunks := (len(places) + maxTombstones - 1) / maxTombstones
	var first error
	for len(places) > 0 {
		chunk := places[:min(len(places), maxTombstones)]
		places = places[len(chunk):]
		var recs records
		offsets := make([]*offset, len(chunk))
		for i, p := range chunk {
			recs.tombstone(g.name, p.topic, p.partition)
			offsets[i] = g.slot(p.topic, p.partition)
			offsets[i].pending++
		}
		m.write(g, recs.done(), func(err error) {
			for i, p := range chunk {
				if err == nil {
					offsets[i].known = false
				}
				g.settle(p.topic, p.partition, offsets[i])
			}
			if first == nil {
				first = err
			}
			if chunks--; chunks == 0 {
				done(first)
			}
		})
	}
}
