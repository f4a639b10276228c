package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/kafka"
)

// space watches what is left of the data directory's file system. Below
// Config.MinFreeDisk the node takes no more records from clients, long before
// the write-ahead log itself is short of space: it goes on to vote, to follow
// and to serve reads, and retention can make room.
type space struct {
	free atomic.Int64
	full atomic.Bool
}

const spaceCheck = time.Second

// errDiskFull is what clients get: they look for another leader and try again.
var errDiskFull = kafka.Errorf(kerr.KafkaStorageError, "the node's disk is nearly full and takes no more records; try again")

// check returns whether full has changed. It recovers a quarter above the
// threshold, so that it does not flap.
func (s *space) check(free uint64, least int64) (changed bool) {
	s.free.Store(int64(min(free, 1<<62)))
	switch full := s.full.Load(); {
	case !full && s.free.Load() < least:
		s.full.Store(true)
		return true
	case full && s.free.Load() >= least+least/4:
		s.full.Store(false)
		return true
	}
	return false
}

// watchSpace checks the space until ctx ends.
func (n *Node) watchSpace(ctx context.Context) {
	tick := time.NewTicker(spaceCheck)
	defer tick.Stop()
	for {
		n.checkSpace()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Node) checkSpace() {
	free, err := n.cfg.FS.Free(n.cfg.DataDir)
	if err != nil {
		n.log.Debug("free space can't be seen", "dir", n.cfg.DataDir, "err", err)
		return
	}
	if !n.space.check(free, n.cfg.MinFreeDisk) {
		return
	}
	if n.space.full.Load() {
		n.log.Error("the disk is nearly full: this node takes no more records until there is space; make room, or shorten the topics' retention",
			"dir", n.cfg.DataDir, "free_bytes", free, "min_free_disk", n.cfg.MinFreeDisk)
	} else {
		n.log.Info("there is space again: this node takes records", "dir", n.cfg.DataDir, "free_bytes", free)
	}
	n.setShedding(shedFull, n.space.full.Load())
}

// spaceError says why the node is not ready, or nil.
func (n *Node) spaceError() error {
	if !n.space.full.Load() {
		return nil
	}
	return fmt.Errorf("the disk is nearly full: %d bytes are free, --min-free-disk is %d", n.space.free.Load(), n.cfg.MinFreeDisk)
}

// registerSpace adds the metrics of the disk.
func (n *Node) registerSpace() error {
	gauges := []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "raftsman_disk_free_bytes", Help: "Bytes free in the file system of the data directory."},
			func() float64 { return float64(n.space.free.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "raftsman_disk_full", Help: "1 while less than --min-free-disk is free and no records are taken."},
			func() float64 {
				if n.space.full.Load() {
					return 1
				}
				return 0
			}),
	}
	for i, g := range gauges {
		if err := n.cfg.Registerer.Register(g); err != nil {
			return fmt.Errorf("register metrics of the disk: %w", err)
		}
		n.onClose("metrics of the disk", func() error { n.cfg.Registerer.Unregister(gauges[i]); return nil })
	}
	return nil
}
