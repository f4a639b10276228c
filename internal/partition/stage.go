package partition

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/pkg/replication"
)

var _ replication.Stager = (*Partition)(nil)

// maxStagedAge is how old an unfinished staging may be at a start. What it holds
// is fetched again then.
const maxStagedAge = 24 * time.Hour

// Stage implements replication.Stager.
func (p *Partition) Stage(ctx context.Context, manifest []byte, fetch replication.Fetch, progress func(done, total int64)) error {
	m, err := DecodeManifest(manifest)
	if err != nil {
		return err
	}
	p.stageMu.Lock()
	defer p.stageMu.Unlock()
	pin, err := p.pinLive()
	if err != nil {
		return err
	}
	err = seglog.Stage(p.cfg.Segments.FS, p.stagedDir(), m.Log, pin, func(base int64, b []byte, off int64) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return fetch(base, b, off)
	}, progress)
	if err != nil {
		if pin != nil {
			err = errors.Join(err, pin.Close())
		}
		return fmt.Errorf("stage segments: %w", err)
	}
	p.keepPin(pin)
	return nil
}

// pinLive pins the live segments, which Stage may leave where they are.
func (p *Partition) pinLive() (*seglog.Pin, error) {
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	if p.broken != nil {
		return nil, p.broken
	}
	if p.log == nil {
		return nil, nil
	}
	return p.log.Pin(), nil
}

// keepPin holds what a complete staging relies on until Restore, the next
// staging or Close. The former pin goes only now: the new one holds as much.
func (p *Partition) keepPin(pin *seglog.Pin) {
	p.mu.Lock()
	old := p.stagePin
	p.stagePin = pin
	p.mu.Unlock()
	if old != nil {
		if err := old.Close(); err != nil {
			p.logger.Warn("can't remove obsolete segments", "err", err)
		}
	}
}

// Staged implements replication.Stager.
func (p *Partition) Staged(manifest []byte) error {
	m, err := DecodeManifest(manifest)
	if err != nil {
		return err
	}
	p.mu.Lock()
	applied := p.offsets.HighWatermark
	p.mu.Unlock()
	if m.Log.Next < applied {
		return fmt.Errorf("the manifest ends at offset %d, this replica has applied all before %d", m.Log.Next, applied)
	}
	return seglog.Staged(p.cfg.Segments.FS, p.logDir(), p.stagedDir(), m.Log)
}

// Source implements replication.Stager.
func (p *Partition) Source(manifest []byte) (replication.Source, error) {
	m, err := DecodeManifest(manifest)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log == nil {
		return nil, ErrClosed
	}
	pin := p.log.Pin()
	if err := pin.Serve(m.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("a newer manifest names other segments: %w", err), pin.Close())
	}
	return pin, nil
}

// sweepStaged removes a staging that is of no use any more: the replica has got
// there by its log, or nobody has gone on with it for long. What is being staged,
// or installed, is left alone.
func (p *Partition) sweepStaged() error {
	if !p.stageMu.TryLock() {
		return nil
	}
	defer p.stageMu.Unlock()
	fsys, dir := p.cfg.Segments.FS, p.stagedDir()
	info, err := fsys.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	next, ok, err := seglog.StagedNext(fsys, dir)
	if err != nil {
		return err
	}
	p.mu.Lock()
	applied := p.offsets.HighWatermark
	p.mu.Unlock()
	age := p.cfg.Now().Sub(info.ModTime())
	if ok && next > applied && age < maxStagedAge {
		return nil
	}
	p.logger.Info("removing segments that were fetched to catch up and are not needed", "next_offset", applied, "staged_next_offset", next, "age", age.Round(time.Second))
	if err := fsys.RemoveAll(dir); err != nil {
		return err
	}
	return fsys.SyncDir(p.cfg.Dir)
}
