package kafka

// encode writes the response's body without the records, and says where they
// belong. The data is the response's from now on. Partitions of a topic that
// follow each other share an entry of the topic, as in Kafka.
func (op *fetchOp) encode(e *encoder, code int16, session int32, parts []*fetchPart) (cuts []cut) {
	hints := hints{s: op.s, listener: op.x.conn.listener}
	e.i32(0) // throttle
	if op.x.version >= 7 {
		e.i16(code)
		e.i32(session)
	}
	topics := 0
	for rest := parts; len(rest) > 0; rest = rest[run(rest):] {
		topics++
	}
	e.count(topics)
	for len(parts) > 0 {
		same := parts[:run(parts)]
		parts = parts[len(same):]
		if t := same[0].topic; t.byID {
			e.uuid(t.id)
		} else {
			e.str(t.name)
		}
		e.count(len(same))
		for _, p := range same {
			op.encodePartition(e, p)
			if p.data != nil {
				cuts = append(cuts, cut{len(e.b), p.data})
				p.data = nil
			}
			op.encodeTags(e, &hints, p)
		}
		e.noTags()
	}
	e.endTags(hints.nodes)
	return cuts
}

// run is how many of the first parts are of one topic.
func run(parts []*fetchPart) int {
	first := parts[0].topic
	for n := 1; n < len(parts); n++ {
		if t := parts[n].topic; t != first && (t.id != first.id || !t.byID && t.name != first.name) {
			return n
		}
	}
	return len(parts)
}

// encodePartition writes a partition up to its records.
func (op *fetchOp) encodePartition(e *encoder, p *fetchPart) {
	v, o, err := op.x.version, p.offsets, p.failure()
	if err != nil {
		op.s.partitionFailed(op.x, p.topic.name, err)
		o = Offsets{Start: -1, HighWatermark: -1, LastStable: -1}
	}
	e.i32(p.index)
	e.i16(codeOf(err))
	e.i64(o.HighWatermark)
	if v >= 4 {
		e.i64(o.LastStable)
	}
	if v >= 5 {
		e.i64(o.Start)
	}
	if v >= 4 {
		aborted := -1 // null
		if op.req.IsolationLevel == 1 {
			aborted = 0
		}
		e.count(aborted)
	}
	if v >= 11 {
		e.i32(p.preferred)
	}
	size := 0
	if p.data != nil {
		size = p.data.Len()
	}
	e.count(size) // bytes are encoded as arrays are
}

// encodeTags ends a partition.
func (op *fetchOp) encodeTags(e *encoder, hints *hints, p *fetchPart) {
	hint := noHint
	if op.x.version >= 16 && movedLeader(codeOf(p.failure())) {
		hint = hints.leader(p.topic.name, p.index)
	}
	switch {
	case p.divergent && p.refused == nil:
		e.tags(1)
		e.b = append(e.b, 0, 13) // tag, size
		e.i32(p.endEpoch)
		e.i64(p.end)
		e.noTags()
	case hint != noHint:
		e.tags(1)
		e.currentLeader(1, hint)
	default:
		e.noTags()
	}
}
