package httpgateway_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/internal/testcluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// A client of a node without replicas writes and reads on while each node with one
// is lost in turn: it sees no error, and every record once and in order. Only when
// its own node goes is it told so.
func TestNodesGoInTurn(t *testing.T) {
	c := testcluster.Start(t, 4, nil)
	first := dial(t, c.Member(1).Node.HTTPAddr())
	create(t, first, "t", 1)
	away := outside(t, first, "t", 4)
	cl := dial(t, c.Member(away).Node.HTTPAddr(), connect.WithGRPC())

	var written, read atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop, writer, reader := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	go func() {
		partition := int32(0)
		for i := int64(0); ; i++ {
			select {
			case <-stop:
				writer <- nil
				return
			default:
			}
			resp, err := cl.Produce(ctx, connect.NewRequest(&v1.ProduceRequest{Topic: "t", Partition: &partition, Records: []*v1.Record{{Value: fmt.Append(nil, i)}}}))
			if err == nil && resp.Msg.Written[0].Offset != i {
				err = fmt.Errorf("record %d is at offset %d", i, resp.Msg.Written[0].Offset)
			}
			if err != nil {
				writer <- err
				return
			}
			written.Store(i + 1)
		}
	}()
	go func() {
		stream, err := cl.Consume(ctx, connect.NewRequest(&v1.ConsumeRequest{Topic: "t"}))
		if err != nil {
			reader <- err
			return
		}
		for stream.Receive() {
			for _, r := range stream.Msg().Records {
				if n, err := strconv.ParseInt(string(r.Value), 10, 64); err != nil || n != read.Load() || r.Offset != n {
					reader <- fmt.Errorf("read %q at offset %d after %d records, %v", r.Value, r.Offset, read.Load(), err)
					return
				}
				read.Add(1)
			}
		}
		reader <- stream.Err()
	}()
	goesOn := func(what string) {
		t.Helper()
		from := written.Load() + 50
		testetcd.Eventually(t, what, func() bool {
			select {
			case err := <-writer:
				t.Fatalf("%s: the writer ended: %v", what, err)
			case err := <-reader:
				t.Fatalf("%s: the reader ended: %v", what, err)
			default:
			}
			return written.Load() >= from && read.Load() >= from
		})
	}
	whole := func() bool {
		d, err := first.DescribeTopic(context.Background(), connect.NewRequest(&v1.DescribeTopicRequest{Name: "t"}))
		return err == nil && d.Msg.Topic.UnderReplicated == 0
	}
	goesOn("records to go through")
	for id := int32(1); id <= 4; id++ {
		if id == away {
			continue
		}
		for other := int32(1); other <= 4; other++ {
			if other != id {
				c.Network.Cut(id, other)
			}
		}
		goesOn(fmt.Sprintf("records to go through without node %d", id))
		for other := int32(1); other <= 4; other++ {
			if other != id {
				c.Network.Heal(id, other)
			}
		}
		testetcd.Eventually(t, fmt.Sprintf("node %d to be back", id), whole)
		if id == 2 { // once in order: it closes its ports
			c.Stop(id)
			goesOn(fmt.Sprintf("records to go through without node %d, which was stopped", id))
			c.Restart(id)
			testetcd.Eventually(t, fmt.Sprintf("node %d to be back", id), whole)
		}
	}
	close(stop)
	if err := <-writer; err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "everything to be read", func() bool { return read.Load() == written.Load() })
	t.Logf("%d records", written.Load())

	c.Stop(away)
	err := <-reader
	var e *connect.Error
	if !errors.As(err, &e) || e.Code() != connect.CodeUnavailable {
		t.Errorf("the stream of a node that stopped ended with %v", err)
	}
}
