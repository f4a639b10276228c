package node

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/kafka"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
)

// localPartition is a replica as the Kafka server sees it.
type localPartition struct {
	p         *partition.Partition
	space     *space
	redirects *redirects
	id        partitionID
	// follows says whether the replica follows its leader closely; nil: it does not.
	follows *followers
}

var _ kafka.Partition = localPartition{}

// Append implements kafka.Partition.
func (l localPartition) Append(batch []byte, done func(kafka.AppendResult)) {
	if l.space.full.Load() {
		done(kafka.AppendResult{BaseOffset: -1, LogStart: -1, AppendTime: -1, Err: errDiskFull})
		return
	}
	answer := func(r partition.AppendResult) {
		done(kafka.AppendResult{BaseOffset: r.BaseOffset, LogStart: r.LogStart, AppendTime: r.AppendTime,
			Err: kafkaError(r.Err), Records: recordErrors(r.Err)})
	}
	refused := func(r partition.AppendResult) func(bool) {
		return func(here bool) {
			if here && errors.Is(r.Err, partition.ErrNotTaken) {
				l.p.Append(batch, answer)
				return
			}
			answer(r)
		}
	}
	if l.redirects.join(l.id, refused(partition.AppendResult{BaseOffset: -1, LogStart: -1, AppendTime: -1, Err: partition.ErrNotTaken})) {
		return
	}
	l.p.Append(batch, func(r partition.AppendResult) {
		if errors.Is(r.Err, partition.ErrNotLeader) {
			l.redirects.answer(l.id, refused(r))
			return
		}
		answer(r)
	})
}

// Read implements kafka.Partition.
func (l localPartition) Read(offset int64, maxBytes int, minOne bool) (kafka.Data, kafka.Offsets, error) {
	data, o, err := l.p.Read(offset, maxBytes, minOne)
	if err != nil {
		return nil, kafkaOffsets(o), kafkaError(err)
	}
	l.p.CountRead(data.Len())
	return &data, kafkaOffsets(o), nil
}

// Offsets implements kafka.Partition.
func (l localPartition) Offsets() (kafka.Offsets, bool) {
	o, leading := l.p.Offsets()
	return kafkaOffsets(o), leading
}

// Unsettled implements kafka.Partition.
func (l localPartition) Unsettled(epoch int32) bool {
	if _, serves := l.p.Offsets(); serves || l.p.Closed() {
		return false
	}
	here, elsewhere := l.redirects.known(l.id)
	if elsewhere && epoch > 0 && l.follows != nil {
		elsewhere = l.follows.term(l.id) >= uint64(epoch)
	}
	return here || !elsewhere
}

// ReadFollower implements kafka.Partition.
func (l localPartition) ReadFollower(offset int64, maxBytes int, minOne bool) (kafka.Data, kafka.Offsets, error) {
	if l.follows == nil || !l.follows.closely(l.id) {
		o, _ := l.p.Offsets()
		return nil, kafkaOffsets(o), kerr.NotLeaderForPartition
	}
	data, o, err := l.p.ReadFollower(offset, maxBytes, minOne)
	if err != nil {
		return nil, kafkaOffsets(o), kafkaError(err)
	}
	l.p.CountRead(data.Len())
	return &data, kafkaOffsets(o), nil
}

// Watch implements kafka.Partition.
func (l localPartition) Watch(w kafka.Watcher, seen kafka.Offsets, leading bool) {
	l.p.Watch(w, partition.Offsets{Start: seen.Start, HighWatermark: seen.HighWatermark, Epoch: seen.Epoch}, leading)
}

// Unwatch implements kafka.Partition.
func (l localPartition) Unwatch(w kafka.Watcher) { l.p.Unwatch(w) }

// OffsetForTimestamp implements kafka.Partition.
func (l localPartition) OffsetForTimestamp(ts int64) (offset, timestamp int64, epoch int32, ok bool, err error) {
	offset, timestamp, epoch, ok, err = l.p.OffsetForTimestamp(ts)
	return offset, timestamp, epoch, ok, kafkaError(err)
}

// MaxTimestamp implements kafka.Partition.
func (l localPartition) MaxTimestamp() (offset, timestamp int64, epoch int32, ok bool, err error) {
	offset, timestamp, epoch, ok, err = l.p.MaxTimestamp()
	return offset, timestamp, epoch, ok, kafkaError(err)
}

// EpochAt implements kafka.Partition.
func (l localPartition) EpochAt(offset int64) int32 { return l.p.EpochAt(offset) }

// EpochEnd implements kafka.Partition.
func (l localPartition) EpochEnd(epoch int32) (int32, int64, error) {
	e, end, err := l.p.EpochEnd(epoch)
	return e, end, kafkaError(err)
}

// recordErrors are the records that a batch was refused for.
func recordErrors(err error) (all []kafka.RecordError) {
	var e *partition.RecordsError
	if errors.As(err, &e) {
		for _, r := range e.Records {
			all = append(all, kafka.RecordError{Index: r.Index, Message: r.Message})
		}
	}
	return all
}

func kafkaOffsets(o partition.Offsets) kafka.Offsets {
	return kafka.Offsets{Start: o.Start, HighWatermark: o.HighWatermark, LastStable: o.HighWatermark, Epoch: o.Epoch}
}

// kafkaError gives an error of the partition its Kafka code, and keeps its text.
func kafkaError(err error) error {
	if err == nil {
		return nil
	}
	var damage *seglog.DamageError
	if errors.As(err, &damage) { // other replicas have it: the client looks for another leader
		return kafka.Errorf(kerr.KafkaStorageError, "%s", err.Error())
	}
	for _, e := range []struct {
		is   error
		code *kerr.Error
	}{
		{partition.ErrNotLeader, kerr.NotLeaderForPartition},
		{partition.ErrOutOfRange, kerr.OffsetOutOfRange},
		{partition.ErrNotAvailable, kerr.OffsetNotAvailable},
		{partition.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
		{partition.ErrDuplicateSequence, kerr.DuplicateSequenceNumber},
		{partition.ErrProducerEpoch, kerr.InvalidProducerEpoch},
		{partition.ErrTooLarge, kerr.MessageTooLarge},
		{partition.ErrInvalidRecord, kerr.InvalidRecord},
		{partition.ErrPolicy, kerr.PolicyViolation},
		{partition.ErrBusy, kerr.RequestTimedOut},
		{partition.ErrRefilling, kerr.NotEnoughReplicas}, // clients try again, here
		{partition.ErrStorage, kerr.KafkaStorageError},
		{partition.ErrClosed, kerr.NotLeaderForPartition},
		{seglog.ErrInconsistent, kerr.InvalidRecord},
		{seglog.ErrCorrupt, kerr.CorruptMessage},
		{seglog.ErrUnsupportedMagic, kerr.UnsupportedForMessageFormat},
		{seglog.ErrUnknownCodec, kerr.UnsupportedCompressionType},
		{seglog.ErrInvalidTimestamp, kerr.InvalidTimestamp},
		{seglog.ErrTooLarge, kerr.MessageTooLarge},
	} {
		if errors.Is(err, e.is) {
			return kafka.Errorf(e.code, "%s", err.Error())
		}
	}
	return kafka.Errorf(kerr.UnknownServerError, "%s", err.Error())
}
