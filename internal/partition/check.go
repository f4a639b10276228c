package partition

import (
	"errors"
	"fmt"

	"github.com/raftsman/raftsman/internal/seglog"
)

// check accepts exactly one well-formed batch as a client may produce it.
func check(b []byte, maxBytes int32) (seglog.Batch, error) {
	batch, rest, err := seglog.NextBatch(b)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes follow the batch, want exactly one batch", ErrInvalidRecord, len(rest))
	}
	if maxBytes > 0 && len(batch) > int(maxBytes) {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(batch), maxBytes)
	}
	if err := batch.Validate(); err != nil {
		return nil, err
	}
	const (
		transactional = 1 << 4
		control       = 1 << 5
		horizon       = 1 << 6
	)
	if batch.Attributes()&control != 0 {
		return nil, fmt.Errorf("%w: clients can't write control batches", ErrInvalidRecord)
	}
	if batch.Attributes()&horizon != 0 {
		return nil, fmt.Errorf("%w: clients can't set a delete horizon", ErrInvalidRecord)
	}
	if batch.Attributes()&transactional != 0 {
		return nil, fmt.Errorf("%w: transactions are not supported", ErrInvalidRecord)
	}
	if batch.ProducerID() >= 0 && (batch.BaseSequence() < 0 || batch.ProducerEpoch() < 0) {
		return nil, fmt.Errorf("%w: producer %d without a sequence", ErrInvalidRecord, batch.ProducerID())
	}
	// Some clients leave the greatest timestamp unset; Kafka fills it in too.
	if _, err := seglog.RepairMaxTimestamp(batch); err != nil {
		return nil, err
	}
	return batch, nil
}

// errKeyless is Kafka's sentence, and each record's is too.
var errKeyless = fmt.Errorf("%w: One or more records have been rejected", ErrInvalidRecord)

// checkKeys refuses a batch with records that have no key: a compacted topic has
// no place for them. It decodes the records, in bounded memory.
func (p *Partition) checkKeys(b seglog.Batch) error {
	var bad []RecordError
	index := int32(0)
	err := seglog.Records(b, func(_, _ int64, key, _ []byte) bool {
		if key == nil {
			bad = append(bad, RecordError{index, fmt.Sprintf(
				"Compacted topic cannot accept message without key in topic partition %s-%d.", p.cfg.Topic, p.cfg.Index)})
		}
		index++
		return len(bad) < maxRecordErrors
	})
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		return &RecordsError{Err: errKeyless, Records: bad}
	}
	return nil
}

// IsCorrupt tells a batch whose bytes were damaged on the way.
func IsCorrupt(err error) bool { return errors.Is(err, seglog.ErrCorrupt) }
