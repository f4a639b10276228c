package partition

import (
	"context"
	"fmt"

	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/pkg/replication"
)

var _ replication.Stager = (*Partition)(nil)

// Stage implements replication.Stager.
func (p *Partition) Stage(ctx context.Context, manifest []byte, fetch replication.Fetch) error {
	m, err := DecodeManifest(manifest)
	if err != nil {
		return err
	}
	p.mu.Lock()
	have := p.log
	p.mu.Unlock()
	err = seglog.Stage(p.cfg.Segments.FS, p.stagedDir(), m.Log, have, func(base int64, b []byte, off int64) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return fetch(base, b, off)
	})
	if err != nil {
		return fmt.Errorf("stage segments: %w", err)
	}
	return nil
}

// Source implements replication.Stager.
func (p *Partition) Source(manifest []byte) (replication.Source, error) {
	if _, err := DecodeManifest(manifest); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log == nil {
		return nil, ErrClosed
	}
	return p.log.Pin(), nil
}
