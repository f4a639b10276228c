package node

import (
	"context"

	"github.com/raftsman/raftsman/internal/kafka"
)

// DeleteRecords implements kafka.PartitionAdmin. raft answers a proposal soon,
// also when there is no majority, so ctx is not waited for.
func (l localPartition) DeleteRecords(ctx context.Context, offset int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return -1, err
	}
	start, err := l.p.DeleteRecords(offset)
	return start, kafkaError(err)
}

// Producers implements kafka.PartitionAdmin.
func (l localPartition) Producers() ([]kafka.ProducerInfo, error) {
	known, err := l.p.Producers()
	if err != nil {
		return nil, kafkaError(err)
	}
	list := make([]kafka.ProducerInfo, len(known))
	for i, p := range known {
		list[i] = kafka.ProducerInfo(p)
	}
	return list, nil
}
