package raftnet

import "sync"

const (
	// bulkHandlers is how many handlers one Bulk connection may keep busy.
	bulkHandlers = 8
	// serialJobs and serialBytes bound the Control messages of one peer that
	// wait for their handlers.
	serialJobs  = 4096
	serialBytes = 16 << 20
)

// server handles the requests of one accepted connection, on its reader.
type server struct {
	n     *Net
	c     *conn
	slots chan struct{} // taken by running Bulk handlers
}

// keep: raft's requests alias their payload, handlers own theirs.
func (s *server) keep(h header) bool { return h.kind != kindPing }

// handle must not block, but for handlers of Bulk messages, which hold up
// their own connection only.
func (s *server) handle(h header, payload []byte) error {
	switch {
	case h.flags&(flagReply|flagError) != 0:
		s.n.metrics.drop("unexpected reply")
	case h.kind == kindPing:
		s.pong(h, payload)
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
	if !s.n.opts.Healthy() {
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
		reply, err := handler(s.c.node, payload)
		s.answer(h, reply, err)
	}
	if s.c.class != Bulk {
		if !s.n.serial(s.c.node).add(s.n, job, len(payload)) {
			s.n.metrics.drop("busy")
			s.refuse(h, codeBusy, "")
		}
		return
	}
	select {
	case s.slots <- struct{}{}:
	case <-s.c.broken:
		return
	}
	if !s.n.spawn(func() {
		defer func() { <-s.slots }()
		job()
	}) {
		<-s.slots
	}
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

// serial runs the jobs of one peer one after the other, on a goroutine that
// exists while there are any.
type serial struct {
	mu      sync.Mutex
	jobs    []serialJob
	bytes   int
	running bool
}

type serialJob struct {
	run   func()
	bytes int
}

// serial of a node.
func (n *Net) serial(node int32) *serial {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, ok := n.control[node]
	if !ok {
		s = &serial{}
		n.control[node] = s
	}
	return s
}

// add queues a job; false when there is no room or n is closed.
func (s *serial) add(n *Net, run func(), bytes int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.jobs) >= serialJobs || len(s.jobs) > 0 && s.bytes+bytes > serialBytes {
		return false
	}
	if !s.running && !n.spawn(s.run) {
		return false
	}
	s.running = true
	s.jobs = append(s.jobs, serialJob{run, bytes})
	s.bytes += bytes
	return true
}

func (s *serial) run() {
	for {
		s.mu.Lock()
		if len(s.jobs) == 0 {
			s.running = false
			s.mu.Unlock()
			return
		}
		job := s.jobs[0]
		s.jobs[0] = serialJob{}
		s.jobs = s.jobs[1:]
		s.bytes -= job.bytes
		s.mu.Unlock()
		job.run()
	}
}
