package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/replication"
)

// Config of one replica of a partition.
type Config struct {
	Topic   string
	TopicID string
	Index   int32
	// Replica is this replica's id, Initial those of the partition's first
	// assignment.
	Replica uint64
	Initial []uint64
	// Dir belongs to this replica alone.
	Dir  string
	Host *replication.Host
	// Segments are the options of the segments but for Dir and SegmentBytes.
	Segments seglog.Options
	// Settings are the topic's, as far as the replica needs them.
	Settings Settings
	// OnDamage is told of a segment that can't be read while the replica is open.
	// It must not block.
	OnDamage func(segment int64, err *seglog.DamageError)
	// OnCompaction is told that there is something for Compact to do. It must not
	// block; nil if nobody compacts.
	OnCompaction func()
	// OnStatus is told each change of leadership. It must not block.
	OnStatus func(replication.Status)
	// Metrics of the node; may be nil.
	Metrics *Metrics
	Logger  *slog.Logger
	// Now is the wall clock, for append times and retention.
	Now func() time.Time
	// UpkeepInterval is how often the leader looks whether something is due:
	// retention, a compaction, a new segment. Default 5 s.
	UpkeepInterval time.Duration
}

// Settings are a topic's configuration. They may change at any time and matter
// on the leader only, which puts what must be the same on all replicas into
// entries.
type Settings struct {
	SegmentBytes    int64         // segment.bytes
	SegmentTime     time.Duration // segment.ms: the active segment's age at which a new one begins; 0 is none
	RetentionTime   time.Duration // retention.ms; < 0 is for ever
	RetentionBytes  int64         // retention.bytes; < 0 is no limit
	MaxMessageBytes int32         // max.message.bytes

	// CleanupDelete and CleanupCompact are cleanup.policy. With neither nothing is
	// removed.
	CleanupDelete, CleanupCompact bool
	MinCompactionLag              time.Duration // min.compaction.lag.ms: younger records are not compacted
	MaxCompactionLag              time.Duration // max.compaction.lag.ms: older ones are, however few; 0 is no limit
	DeleteRetention               time.Duration // delete.retention.ms: how long tombstones stay after compaction has met them
	MinCleanableRatio             float64       // min.cleanable.dirty.ratio, 0 to 1

	// LogAppendTime is message.timestamp.type=LogAppendTime: the leader's clock is
	// the time of every record, and the bounds below don't apply.
	LogAppendTime bool
	// TimestampBeforeMax and TimestampAfterMax bound how far a record's CreateTime
	// may be behind and ahead of the leader's clock
	// (message.timestamp.before.max.ms and .after.max.ms); 0 is no limit.
	TimestampBeforeMax, TimestampAfterMax time.Duration
}

// state is what manifests carry beside the log.
type state struct {
	epoch        int32 // of the last leader that began
	epochs       epochs
	producers    *producers
	reached      [2]int64
	segmentBytes int64
	active       active
	compactions  compactions
	refill       int64 // token of the backup that the partition is being filled from, or 0
}

// Offsets of a partition.
type Offsets struct {
	Start         int64 // first readable offset
	HighWatermark int64 // one after the last committed record
	Epoch         int32 // leader epoch: the leader's raft term
}

// Partition is one replica of one partition.
type Partition struct {
	cfg    Config
	topic  *topicCounters // may be nil
	logger *slog.Logger
	group  *replication.Group
	opened atomic.Pointer[replication.Group] // group, once Open has it

	// applyMu is held by raft's apply goroutine and by what must not run beside it.
	applyMu sync.Mutex
	state   state
	next    int64
	broken  error
	stuck   atomic.Bool   // the last Compact failed
	damaged *DamagedError // why the segments can't be opened

	// mu guards what readers see.
	mu       sync.Mutex
	log      *seglog.Log // written under applyMu and mu
	offsets  Offsets
	reached  [2]int64
	history  epochs
	leading  bool // may serve: leads, and the epoch start of the term was applied
	status   replication.Status
	watchers map[Watcher]struct{}
	settings Settings
	closed   bool
	stagePin *seglog.Pin // live segments that a complete staging relies on

	stageMu sync.Mutex // one staging, or its removal, at a time; before the others

	queueMu   sync.Mutex
	queue     []pending
	queued    int           // bytes
	accepting bool          // raft leads here: what is queued will be proposed or refused
	holds     int           // callers of hold: nothing is proposed
	flying    int           // entries that were proposed and not answered
	calm      chan struct{} // closed when flying is 0; nil when nobody waits
	ready     chan struct{}

	statuses chan replication.Status
	cancel   context.CancelFunc
	done     chan struct{}
}

// Open opens a replica and joins its group.
func Open(cfg Config) (*Partition, error) {
	p := &Partition{
		cfg: cfg, settings: cfg.Settings,
		logger:   cfg.Logger.With("topic", cfg.Topic, "partition", cfg.Index, "replica", cfg.Replica),
		state:    state{producers: newProducers(), segmentBytes: cfg.Settings.SegmentBytes, epoch: -1},
		statuses: make(chan replication.Status, 1), ready: make(chan struct{}, 1), done: make(chan struct{}),
	}
	p.offsets.Epoch = -1
	if cfg.Metrics != nil {
		p.topic = cfg.Metrics.topics.of(cfg.Topic)
	}
	if err := cfg.Segments.FS.MkdirAll(cfg.Dir); err != nil {
		return nil, fmt.Errorf("open partition: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	var err error
	p.group, err = cfg.Host.OpenGroup(replication.GroupConfig{
		Replica: cfg.Replica, Name: fmt.Sprintf("%s/%d", cfg.Topic, cfg.Index), Initial: cfg.Initial,
		StateMachine: p, OnStatus: p.onStatus, Membership: p, Hold: p.hold,
	})
	if err != nil {
		cancel()
		if p.log != nil {
			err = errors.Join(err, p.log.Close())
		}
		if p.damaged != nil { // raft does not pass on why
			err = errors.Join(err, p.damaged)
		}
		return nil, err
	}
	p.opened.Store(p.group)
	p.applyMu.Lock()
	if err := p.ensureLog(); err != nil {
		p.fail(err)
	}
	p.publish()
	p.applyMu.Unlock()
	if err := p.sweepStaged(); err != nil {
		p.logger.Warn("can't remove segments that were fetched to catch up", "err", err)
	}
	go p.run(ctx)
	return p, nil
}

func (p *Partition) logDir() string    { return vfs.Join(p.cfg.Dir, "log") }
func (p *Partition) stagedDir() string { return vfs.Join(p.cfg.Dir, "staged") }

// Topic is the partition's topic, by name.
func (p *Partition) Topic() string { return p.cfg.Topic }

// Group is the replica's raft group.
func (p *Partition) Group() *replication.Group { return p.group }

// SetSettings changes the topic's configuration.
func (p *Partition) SetSettings(s Settings) {
	p.mu.Lock()
	p.settings = s
	p.mu.Unlock()
}

// MaxBatch is the size of the largest batch that is taken for now.
func (p *Partition) MaxBatch() int { return int(p.currentSettings().MaxMessageBytes) }

func (p *Partition) currentSettings() Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings
}

// onStatus comes from the group's goroutine.
func (p *Partition) onStatus(s replication.Status) {
	p.mu.Lock()
	p.status = s
	p.leadingLocked()
	accepting := s.Leading && !p.closed
	p.mu.Unlock()
	p.accept(accepting)
	// Only the newest counts; this is the only sender.
	select {
	case <-p.statuses:
	default:
	}
	p.statuses <- s
	if p.cfg.OnStatus != nil {
		p.cfg.OnStatus(s)
	}
}

// publish shows readers what was applied. applyMu is held.
func (p *Partition) publish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log == nil {
		return
	}
	p.reached = p.state.reached
	p.history = p.state.epochs
	now := Offsets{Start: p.log.Start(), HighWatermark: p.next, Epoch: p.state.epoch}
	wake := now != p.offsets
	p.offsets = now
	p.leadingLocked()
	if wake {
		p.wakeLocked()
	}
}

// leadingLocked derives whether this replica may serve.
func (p *Partition) leadingLocked() {
	leading := !p.closed && p.status.Leading && uint64(p.offsets.Epoch) == p.status.Term && p.log != nil
	if leading != p.leading {
		p.leading = leading
		p.wakeLocked()
	}
}

func (p *Partition) wakeLocked() {
	for w := range p.watchers {
		w.Ring()
	}
	clear(p.watchers)
}

// run has one term of leadership after another until ctx ends.
func (p *Partition) run(ctx context.Context) {
	defer close(p.done)
	stop := func() {}
	defer func() { stop() }()
	var leads uint64 // the term that a proposer runs for
	for {
		var s replication.Status
		select {
		case <-ctx.Done():
			return
		case s = <-p.statuses:
		}
		term := uint64(0)
		if s.Leading {
			term = s.Term
		}
		if term == leads {
			continue
		}
		stop()
		stop, leads = func() {}, term
		if term == 0 {
			continue
		}
		termCtx, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			p.lead(termCtx, term)
		}()
		stop = func() {
			cancel()
			<-ended
		}
	}
}

// Reached implements replication.Membership.
func (p *Partition) Reached() (epoch, generation int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reached[0], p.reached[1]
}

// EncodeReached implements replication.Membership.
func (p *Partition) EncodeReached(epoch, generation int64) (data, ext []byte) {
	return nil, p.command(kindReached, epoch, generation)
}

// Size is how many bytes the segments hold.
func (p *Partition) Size() int64 {
	p.mu.Lock()
	log := p.log
	p.mu.Unlock()
	if log == nil {
		return 0
	}
	return log.Size()
}

func (p *Partition) command(k kind, arg ...int64) []byte {
	c := command{kind: k, time: p.cfg.Now().UnixMilli()}
	copy(c.arg[:], arg)
	return c.encode()
}

func (p *Partition) interrupt() {
	p.mu.Lock()
	log := p.log
	p.mu.Unlock()
	if log != nil {
		log.Interrupt()
	}
}

// closePatience is how long Close waits for entries in flight.
const closePatience = 10 * time.Second

func (p *Partition) ended(limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
		return false
	}
}

// Close leaves the group, waits for everything that runs for this replica and
// closes its segments. Pending appends are answered with ErrNotLeader.
func (p *Partition) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.leadingLocked()
	p.wakeLocked()
	p.mu.Unlock()
	// The proposer first: raft does not answer every entry that is in flight
	// when it shuts down. While it runs each one ends, at the latest when a leader
	// without a majority steps down.
	p.accept(false)
	p.cancel()
	// On a full disk an entry that is being applied waits for memory that nothing
	// frees. What is not applied is in the log, and is replayed.
	late := time.AfterFunc(closePatience, p.interrupt)
	defer late.Stop()
	ended := p.ended(closePatience)
	err := p.group.Close()
	p.accept(false)
	if !ended && !p.ended(time.Second) {
		p.logger.Error("an entry in flight was never answered; its producer is left without an answer")
	}
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	if p.broken == nil {
		p.broken = ErrClosed
	}
	p.mu.Lock()
	log := p.log
	p.mu.Unlock()
	if log != nil {
		err = errors.Join(err, log.Close())
	}
	return err
}
