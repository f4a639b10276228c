package manifest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// batchBytes bounds what shares a write, unless one manifest is larger.
	batchBytes = 8 << 20
	// joinQuiet is how long a write waits for snapshots that have begun, after
	// the last that came; joinPatience bounds that.
	joinQuiet    = 5 * time.Millisecond
	joinPatience = 50 * time.Millisecond
)

// pending is a snapshot on its way to the disk.
type pending struct {
	group uint64
	meta  raft.SnapshotMeta
	body  []byte // of a record of kind 1
	start int    // of the payload within it
	turn  chan turn
}

// turn ends a pending's wait: it was written, or its caller writes now.
type turn struct {
	err  error
	lead bool
}

// put appends a snapshot; it is durable on return. Callers that come at the same
// time share one write and one fsync.
func (s *Store) put(group uint64, meta raft.SnapshotMeta, payload []byte) error {
	m, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	if len(m) > maxMeta || len(payload) > MaxPayload {
		return fmt.Errorf("manifest of group %d: %d bytes of meta and %d of payload are too many", group, len(m), len(payload))
	}
	p := &pending{group: group, meta: meta, start: 13 + len(m), turn: make(chan turn, 1)}
	p.body = make([]byte, 0, p.start+len(payload))
	p.body = append(p.body, kindSnapshot)
	p.body = binary.LittleEndian.AppendUint64(p.body, group)
	p.body = binary.LittleEndian.AppendUint32(p.body, uint32(len(m)))
	p.body = append(p.body, m...)
	p.body = append(p.body, payload...)

	s.queueMu.Lock()
	s.queue = append(s.queue, p)
	first := !s.leading
	s.leading = true
	s.queueMu.Unlock()
	if !first {
		select {
		case s.joined <- struct{}{}:
		default:
		}
		if t := <-p.turn; !t.lead {
			return t.err
		}
	}
	return s.lead(p)
}

// lead writes what is queued, p first, and hands over to the next one.
func (s *Store) lead(p *pending) error {
	s.gather()
	s.queueMu.Lock()
	n, size := 0, 0
	for n < len(s.queue) && (n == 0 || size+len(s.queue[n].body) <= batchBytes) {
		size += len(s.queue[n].body) + recordHeader
		n++
	}
	batch := s.queue[:n:n]
	s.queue = s.queue[n:]
	s.queueMu.Unlock()

	err := s.write(batch)
	for _, q := range batch {
		if q != p {
			q.turn <- turn{err: err}
		}
	}
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	if s.leading = len(s.queue) > 0; s.leading {
		s.queue[0].turn <- turn{lead: true}
	}
	return err
}

// gather waits a little for the snapshots that have begun and are not queued.
func (s *Store) gather() {
	if !s.expecting() {
		return
	}
	end := time.NewTimer(joinPatience)
	defer end.Stop()
	quiet := time.NewTimer(joinQuiet)
	defer quiet.Stop()
	for s.expecting() {
		select {
		case <-s.joined:
			quiet.Reset(joinQuiet)
		case <-quiet.C:
			return
		case <-end.C:
			return
		}
	}
}

func (s *Store) expecting() bool {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	return s.begun > 0
}

// begin counts snapshots that will be queued soon; -1: one is, or never will be.
func (s *Store) begin(n int) {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	s.begun += n
}

// write makes a batch durable as one record.
func (s *Store) write(batch []*pending) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.old { // a log of the first version could not be rewritten at Open
		for _, p := range batch {
			if err := s.writeLocked([]*pending{p}); err != nil {
				return err
			}
		}
	} else if err := s.writeLocked(batch); err != nil {
		return err
	}
	return s.rewriteIfWorthLocked()
}

func (s *Store) writeLocked(batch []*pending) error {
	if len(batch) == 1 {
		offset, err := s.appendLocked(batch[0].body)
		if err != nil {
			return err
		}
		s.adoptLocked(batch[0], offset)
		return nil
	}
	body := make([]byte, 0, batchHead+len(batch)*recordHeader)
	body = append(body, kindBatch)
	body = binary.LittleEndian.AppendUint64(body, uint64(len(batch)))
	for _, p := range batch {
		body = append(body, recordHead(partMagic, p.body)...)
		body = append(body, p.body...)
	}
	offset, err := s.appendLocked(body)
	if err != nil {
		return err
	}
	offset += recordHeader + batchHead
	for _, p := range batch {
		s.adoptLocked(p, offset)
		offset += recordHeader + int64(len(p.body))
	}
	return nil
}

// adoptLocked makes a durable record the newest one of its group.
func (s *Store) adoptLocked(p *pending, offset int64) {
	s.live -= s.latest[p.group].size
	e := entry{meta: p.meta, offset: offset, size: recordHeader + int64(len(p.body)), payload: offset + recordHeader + int64(p.start)}
	s.latest[p.group] = e
	s.live += e.size
}
