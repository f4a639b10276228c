package node

import (
	"errors"
	"fmt"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/manifest"
	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/internal/wal"
)

// diskFailed ends the node: what a failed write or fsync has left on the disk is
// unknown, and trying again would only hide it. Peers and etcd are told nothing
// more from the moment of the failure (replication.Host.Healthy).
func (n *Node) diskFailed(err error) {
	if n.cfg.OnDiskFailure != nil {
		n.cfg.OnDiskFailure(err)
	}
	n.fail(err)
}

// withRemedy adds to an error about damaged files what to do.
func withRemedy(err error) error {
	var (
		inWAL      *wal.DamageError
		inManifest *manifest.DamageError
		inSegment  *seglog.DamageError
		foreign    *identity.MismatchError
	)
	switch {
	case errors.As(err, &inWAL), errors.As(err, &inManifest), errors.As(err, &inSegment):
		return fmt.Errorf("%w; nothing was cut off: keep a copy, see what is left with `raftsman debug`, look at the disk, and start this node with an empty data directory to have it rebuilt from the others", err)
	case errors.As(err, &foreign):
		return fmt.Errorf("%w: give each node its own --data-dir, or put the file back where it belongs", err)
	}
	return err
}
