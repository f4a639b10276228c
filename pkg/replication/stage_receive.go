package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/raftnet"
)

var (
	errNewerStaging = errors.New("another leader, or the same one again, began to send segments")
	errStageClosed  = errors.New("the replica is being closed")
)

// receiving sees to it that one leader at a time stages segments at a replica,
// the newest, and none while a manifest is being installed.
type receiving struct {
	mu         sync.Mutex
	term       uint64 // of the newest leader that came
	cancel     context.CancelCauseFunc
	done       chan struct{} // nil: nothing runs
	installing bool
	closed     bool
}

// begin ends what runs, if it is not of a newer leader, and waits for that.
func (r *receiving) begin(ctx context.Context, term uint64) (_ context.Context, end func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.closed:
			return nil, nil, errStageClosed
		case term < r.term:
			return nil, nil, fmt.Errorf("stage: a leader of term %d comes after one of term %d", term, r.term)
		case r.installing:
			return nil, nil, errors.New("stage: a manifest is being installed")
		}
		r.term = term
		if r.done == nil {
			break
		}
		r.cancel(errNewerStaging)
		done := r.done
		r.mu.Unlock()
		<-done
		r.mu.Lock()
	}
	done := make(chan struct{})
	ctx, r.cancel = context.WithCancelCause(ctx)
	r.done = done
	return ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.cancel(nil)
		r.done = nil
		close(done)
	}, nil
}

// install begins the installation of a manifest unless something runs; check is
// asked with nothing running.
func (r *receiving) install(check func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done != nil {
		return errors.New("segments of another manifest are being staged")
	}
	if err := check(); err != nil {
		return err
	}
	r.installing = true
	return nil
}

func (r *receiving) installed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.installing = false
}

// close ends what runs, waits for it, and lets nothing begin any more.
func (r *receiving) close() {
	r.mu.Lock()
	r.closed = true
	done := r.done
	if done != nil {
		r.cancel(errStageClosed)
	}
	r.mu.Unlock()
	if done != nil {
		<-done
	}
}

// beginInstall is asked before a leader's manifest becomes durable here. After
// that there is no way back, so its files must be there. An entry that the
// replica has applied already is not taken back either.
func (g *Group) beginInstall(manifest []byte) error {
	stager, ok := g.cfg.StateMachine.(Stager)
	if !ok {
		return nil
	}
	if err := g.receiving.install(func() error { return stager.Staged(manifest) }); err != nil {
		g.log.Warn("refused a manifest of the leader, which will stage its segments again", "err", err)
		return err
	}
	return nil
}

// stageMessage asks a replica to stage a manifest.
type stageMessage struct {
	replica, token, term uint64
	end                  position // of the manifest
	manifest             []byte
}

const stageHeader = 40 // bytes before the manifest

func (m stageMessage) encode() []byte {
	b := make([]byte, 0, stageHeader+len(m.manifest))
	b = binary.BigEndian.AppendUint64(b, m.replica)
	b = binary.BigEndian.AppendUint64(b, m.token)
	b = binary.BigEndian.AppendUint64(b, m.term)
	b = binary.BigEndian.AppendUint64(b, m.end.index)
	b = binary.BigEndian.AppendUint64(b, m.end.term)
	return append(b, m.manifest...)
}

func decodeStage(b []byte) (m stageMessage, err error) {
	if len(b) < stageHeader {
		return m, errors.New("stage: message is too short")
	}
	m.replica, m.token = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	m.term, m.manifest = binary.BigEndian.Uint64(b[16:]), b[stageHeader:]
	m.end = position{binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[32:])}
	return m, nil
}

// handleStage runs on the follower, for as long as the staging lasts.
func (h *Host) handleStage(from int32, msg []byte) ([]byte, error) {
	m, err := decodeStage(msg)
	if err != nil {
		return nil, err
	}
	g, ok := h.Group(m.replica)
	if !ok {
		return nil, fmt.Errorf("stage: replica %d is not here", m.replica)
	}
	stager, ok := g.cfg.StateMachine.(Stager)
	if !ok {
		return nil, fmt.Errorf("stage: replica %d keeps no files", m.replica)
	}
	if term := g.raft.CurrentTerm(); m.term < term {
		return nil, fmt.Errorf("stage: a leader of term %d, but this replica is at term %d", m.term, term)
	}
	if g.holds(m.end.index, m.end.term) {
		return nil, nil // the snapshot itself will be answered alike
	}
	ctx, end, err := g.receiving.begin(h.ctx, m.term)
	if err != nil {
		return nil, err
	}
	defer end()
	watch := h.stageMetrics.receive(g)
	defer watch.end()
	g.log.Info("fetching segments from the leader", "node", from, "term", m.term)
	err = stager.Stage(ctx, m.manifest, h.fetchFrom(ctx, from, m.token, watch, h.throttleIn(g)), watch.progress)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		g.log.Warn("fetching segments was cut off; what is here is kept", "node", from,
			"staged_bytes", watch.done.Load(), "total_bytes", watch.total.Load(), "err", err)
	}
	return nil, err
}

// progressEvery is the pause between log lines about one staging.
const progressEvery = 10 * time.Second

// throttleIn is what the segments of a replica here have to pass; nil: nothing.
func (h *Host) throttleIn(g *Group) *throttle {
	if g.isNew() {
		return h.moves.in
	}
	return nil
}

func (h *Host) fetchFrom(ctx context.Context, node int32, token uint64, watch *receiveWatch, pace *throttle) Fetch {
	return func(file int64, p []byte, off int64) (int, error) {
		done := 0
		for done < len(p) {
			n := min(len(p)-done, fetchBytes)
			if pace != nil {
				if err := pace.wait(ctx, n); err != nil {
					return done, err
				}
			}
			msg := binary.BigEndian.AppendUint64(nil, token)
			msg = binary.BigEndian.AppendUint64(msg, uint64(file))
			msg = binary.BigEndian.AppendUint64(msg, uint64(off+int64(done)))
			msg = binary.BigEndian.AppendUint32(msg, uint32(n))
			got, err := h.net.Call(ctx, node, raftnet.Bulk, byte(kindFetch), msg)
			if err != nil {
				return done, err
			}
			if len(got) != n {
				return done, io.ErrUnexpectedEOF
			}
			copy(p[done:], got)
			done += n
			watch.fetched(n)
		}
		return done, nil
	}
}
