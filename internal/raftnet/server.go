package raftnet

// server handles the requests of one accepted connection, on its reader.
type server struct {
	n    *Net
	c    *conn
	bulk map[byte]*pool // of Bulk handlers, by kind
}

// keep: raft's requests alias their payload, handlers own theirs.
func (s *server) keep(h header) bool { return h.kind != kindPing && h.kind != kindBeats }

// handle must not block.
func (s *server) handle(h header, payload []byte) error {
	switch {
	case h.flags&(flagReply|flagError) != 0:
		s.n.metrics.drop("unexpected reply")
	case h.kind == kindPing:
		s.pong(h, payload)
	case h.kind == kindBeats:
		s.beats(h, payload)
	case h.kind >= FirstUserKind:
		s.message(h, payload)
	case h.kind >= kindAppendEntries && h.kind <= kindInstallSnapshot:
		s.raft(h, payload)
	default:
		s.refuse(h, codeBadRequest, "unknown kind of request")
	}
	return nil
}

func (s *server) refuse(h header, code byte, text string) {
	if h.flags&flagOneWay == 0 {
		s.c.reply(errorFrame(h, code, text))
	}
}

func (s *server) pong(h header, payload []byte) {
	if h.flags&flagOneWay != 0 || !s.n.opts.Healthy() {
		return
	}
	if f, err := simpleFrame(kindPing, flagReply, h.id, 0, 0, payload); err == nil {
		s.c.reply(f)
	}
}

// raft hands a request to the group of its destination.
func (s *server) raft(h header, payload []byte) {
	t, ok := s.n.groups.Load(h.dst)
	if !ok {
		s.n.metrics.drop("unknown replica")
		s.refuse(h, codeUnknownReplica, "")
		return
	}
	cmd, body, err := decodeRequest(h.kind, h.src, payload)
	if err != nil {
		s.n.metrics.drop("bad request")
		s.refuse(h, codeBadRequest, err.Error())
		return
	}
	if code := t.(*Transport).receive(s.c, h, cmd, body); code != 0 {
		s.n.metrics.drop("busy")
		s.refuse(h, code, "")
	}
}

// message hands a node-level message to its handler.
func (s *server) message(h header, payload []byte) {
	handler := s.n.handlers[h.kind]
	if handler == nil {
		s.n.metrics.drop("no handler")
		s.refuse(h, codeNoHandler, "")
		return
	}
	job := func() {
		if s.c.isBroken() && s.c.class == Bulk {
			return // nobody waits for it any more
		}
		reply, err := handler(s.c.node, payload)
		s.answer(h, reply, err)
	}
	if !s.pool(h.kind).add(s.n, job, len(payload)) {
		s.n.metrics.drop("busy")
		s.refuse(h, codeBusy, "")
	}
}

// pool that runs a message's handler: one for all Control messages of a peer,
// one for each kind of a Bulk connection. Handlers of one kind may wait for
// the peer to answer another kind, so those must not wait for each other.
func (s *server) pool(kind byte) *pool {
	if s.c.class != Bulk {
		return s.n.controlPool(s.c.node)
	}
	p, ok := s.bulk[kind]
	if !ok {
		p = &pool{workers: bulkHandlers, maxJobs: bulkJobs, maxBytes: bulkBytes}
		s.bulk[kind] = p
	}
	return p
}

func (s *server) answer(h header, reply []byte, err error) {
	if h.flags&flagOneWay != 0 {
		return
	}
	var f *frame
	if err == nil {
		f, err = simpleFrame(h.kind, flagReply, h.id, 0, 0, reply)
	}
	if err != nil {
		f = errorFrame(h, codeRemote, err.Error())
	}
	if s.c.class == Bulk {
		s.c.replyBulk(f)
	} else {
		s.c.reply(f)
	}
}
