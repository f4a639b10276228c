package httpgateway

import (
	"context"
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/internal/kafka"

	"github.com/twmb/franz-go/pkg/kerr"
)

func stampOf(ms int64) *timestamppb.Timestamp { return timestamppb.New(time.UnixMilli(ms)) }

// A producer's numbers follow each other, those of a refused batch are used again,
// and an id is given up when nobody knows what was written with it.
func TestProducersKeepCount(t *testing.T) {
	ids := int64(0)
	g := &Gateway{producers: newProducers(func(context.Context) (*v1.Producer, error) {
		ids++
		return &v1.Producer{Id: ids}, nil
	})}
	info := &kafka.TopicInfo{Name: "t", ID: [16]byte{1}}
	send := func(records int, err error, doubtful bool) *v1.Producer {
		b := &batch{index: 3, records: make([]*v1.Record, records)}
		done := g.stampAll(t.Context(), info, nil, []*batch{b})
		b.err, b.doubtful = err, doubtful
		done()
		return b.stamp
	}
	for _, step := range []struct {
		records  int
		err      error
		doubtful bool
		id       int64
		sequence int32
	}{
		{2, nil, false, 1, 0},
		{5, nil, false, 1, 2},
		{4, kerr.MessageTooLarge, false, 1, 7}, // not written
		{1, nil, false, 1, 7},
		{1, kerr.NotLeaderForPartition, true, 1, 8},
		{3, nil, false, 2, 0},
		{3, kerr.OutOfOrderSequenceNumber, false, 2, 3},
		{1, nil, false, 3, 0},
		{1, context.DeadlineExceeded, false, 3, 1}, // no leader came up
		{1, nil, false, 3, 1},
	} {
		if got := send(step.records, step.err, step.doubtful); got.Id != step.id || got.Sequence != step.sequence {
			t.Fatalf("%+v was sent with %v", step, got)
		}
	}
	// Two at once have one each.
	first, err := g.producers.borrow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := g.producers.borrow(t.Context())
	if err != nil || first.id == second.id {
		t.Errorf("both have producer id %d, %v", first.id, err)
	}
	first.next[place{}] = math.MaxInt32 - 1
	if a, b := first.stamp(place{}, 3).Sequence, first.stamp(place{}, 1).Sequence; a != math.MaxInt32-1 || b != 1 {
		t.Errorf("numbers go from %d to %d", a, b)
	}
}
