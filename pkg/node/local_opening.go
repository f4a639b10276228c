package node

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/kafka"
)

// openingPartition is a replica that is being opened. Its group may have elected it
// by now, and the other nodes may send clients here.
type openingPartition struct {
	b  backend
	id partitionID
}

var _ kafka.Partition = openingPartition{}

// Unsettled implements kafka.Partition.
func (o openingPartition) Unsettled(int32) bool { return o.b.n.replicas.opening(o.id) }

// Append implements kafka.Partition.
func (o openingPartition) Append(batch []byte, done func(kafka.AppendResult)) {
	o.b.n.redirects.answer(o.id, func(here bool) {
		if p, ok := o.b.n.replicas.get(o.id); here && ok {
			o.b.local(p, o.id).Append(batch, done)
			return
		}
		done(kafka.AppendResult{BaseOffset: -1, LogStart: -1, AppendTime: -1, Err: kerr.NotLeaderForPartition})
	})
}

// Offsets implements kafka.Partition.
func (o openingPartition) Offsets() (kafka.Offsets, bool) {
	return kafka.Offsets{Start: -1, HighWatermark: -1, LastStable: -1, Epoch: -1}, false
}

// Read implements kafka.Partition.
func (o openingPartition) Read(int64, int, bool) (kafka.Data, kafka.Offsets, error) {
	none, _ := o.Offsets()
	return nil, none, kerr.NotLeaderForPartition
}

// ReadFollower implements kafka.Partition.
func (o openingPartition) ReadFollower(offset int64, maxBytes int, minOne bool) (kafka.Data, kafka.Offsets, error) {
	return o.Read(offset, maxBytes, minOne)
}

// Watch implements kafka.Partition: Backend.TopicsChanged tells when the replica can
// be found.
func (openingPartition) Watch(kafka.Watcher, kafka.Offsets, bool) {}

// Unwatch implements kafka.Partition.
func (openingPartition) Unwatch(kafka.Watcher) {}

// OffsetForTimestamp implements kafka.Partition.
func (openingPartition) OffsetForTimestamp(int64) (offset, timestamp int64, epoch int32, ok bool, err error) {
	return -1, -1, -1, false, kerr.NotLeaderForPartition
}

// MaxTimestamp implements kafka.Partition.
func (openingPartition) MaxTimestamp() (offset, timestamp int64, epoch int32, ok bool, err error) {
	return -1, -1, -1, false, kerr.NotLeaderForPartition
}

// EpochAt implements kafka.Partition.
func (openingPartition) EpochAt(int64) int32 { return -1 }

// EpochEnd implements kafka.Partition.
func (openingPartition) EpochEnd(int32) (int32, int64, error) {
	return -1, -1, kerr.NotLeaderForPartition
}

// DeleteRecords implements kafka.PartitionAdmin.
func (openingPartition) DeleteRecords(context.Context, int64) (int64, error) {
	return -1, kerr.NotLeaderForPartition
}

// Producers implements kafka.PartitionAdmin.
func (openingPartition) Producers() ([]kafka.ProducerInfo, error) {
	return nil, kerr.NotLeaderForPartition
}
