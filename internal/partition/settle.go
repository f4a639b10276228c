package partition

import (
	"errors"
	"fmt"
)

// Settle makes all that a closed replica's log holds, committed or not, the
// state of a partition whose only replica is into (replication.Host.Settle). It
// may be repeated. The replica's directory then holds all of the partition.
func Settle(cfg Config, into uint64) error {
	p := &Partition{
		cfg: cfg, settings: cfg.Settings,
		logger: cfg.Logger.With("topic", cfg.Topic, "partition", cfg.Index, "replica", cfg.Replica),
		state:  state{producers: newProducers(), segmentBytes: cfg.Settings.SegmentBytes, epoch: -1},
	}
	p.offsets.Epoch = -1
	if err := cfg.Segments.FS.MkdirAll(cfg.Dir); err != nil {
		return fmt.Errorf("settle partition: %w", err)
	}
	err := cfg.Host.Settle(cfg.Replica, into, p)
	if p.log != nil {
		err = errors.Join(err, p.log.Close())
	}
	return err
}
