//go:build system

package system

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/api/raftsman/v1/raftsmanv1connect"
	"github.com/raftsman/raftsman/internal/httpgateway"
)

// recordsOf is the generated client of a node, as gRPC without TLS.
func recordsOf(t *testing.T, addr string) raftsmanv1connect.RecordServiceClient {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	t.Cleanup(tr.CloseIdleConnections)
	return raftsmanv1connect.NewRecordServiceClient(&http.Client{Transport: tr}, "http://"+addr, connect.WithGRPC())
}

// TestHTTPGatewayThroughKills: curl writes and a gRPC stream reads through a node that
// holds no replica, while those that do are killed in turn. No request fails, every
// record is there once and in order, and the answering nodes are named. When their own
// node is killed both are told so.
func TestHTTPGatewayThroughKills(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 4, 5*time.Second)
	c.create("lines", 1)
	away := c.withoutReplica("lines")
	addr := c.http[away-1]

	var written, read atomic.Int64
	answered := make(map[string]int) // by nodes; the writer's until it has ended
	stop, writer, reader := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	go func() {
		for i := int64(0); ; i++ {
			select {
			case <-stop:
				writer <- nil
				return
			default:
			}
			out, err := exec.CommandContext(t.Context(), "curl", "-sS", "--max-time", "30", "-H", "Content-Type: application/json", "-D", "/dev/stderr",
				"-d", fmt.Sprintf(`{"topic":"lines","partition":0,"records":[{"valueText":"%d"}]}`, i), "http://"+addr+"/raftsman.v1.RecordService/Produce").CombinedOutput()
			var said struct{ Written []struct{ Offset string } }
			_, body, _ := strings.Cut(string(out), "\r\n\r\n")
			if err == nil {
				err = json.Unmarshal([]byte(body), &said)
			}
			if err != nil || len(said.Written) != 1 || said.Written[0].Offset != fmt.Sprint(i) {
				writer <- fmt.Errorf("record %d: %v: %s", i, err, out)
				return
			}
			for line := range strings.SplitSeq(string(out), "\r\n") {
				if name, node, _ := strings.Cut(line, ": "); strings.EqualFold(name, httpgateway.HeaderAnswered) {
					answered[node]++
				}
			}
			written.Store(i + 1)
		}
	}()
	go func() {
		stream, err := recordsOf(t, addr).Consume(context.WithoutCancel(t.Context()), connect.NewRequest(&v1.ConsumeRequest{Topic: "lines", Text: true}))
		if err != nil {
			reader <- err
			return
		}
		for stream.Receive() {
			for _, r := range stream.Msg().Records {
				if want := fmt.Sprint(read.Load()); r.GetValueText() != want {
					reader <- fmt.Errorf("read %q at offset %d, want %s", r.GetValueText(), r.Offset, want)
					return
				}
				read.Add(1)
			}
		}
		reader <- stream.Err()
	}()
	goesOn := func(what string) {
		t.Helper()
		from := written.Load() + 30
		waitFor(t, what, time.Minute, func() bool {
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
	goesOn("lines to go through")
	for id := 1; id <= 4; id++ {
		if id == away {
			continue
		}
		c.node(id).kill()
		goesOn(fmt.Sprintf("lines to go through without node %d", id))
		c.node(id).start()
		c.waitReady(id)
		waitFor(t, fmt.Sprintf("node %d to be in sync", id), time.Minute, func() bool { return c.inSync("lines", 0, id) })
	}
	at := written.Load()
	c.node(away).kill()
	if err := <-writer; err == nil || !strings.Contains(err.Error(), "curl:") {
		t.Errorf("curl on the killed node: %v", err)
	}
	if err := <-reader; err == nil {
		t.Error("the stream of the killed node ended as if that were all")
	}
	if len(answered) < 2 || answered[fmt.Sprint(away)] > 0 {
		t.Errorf("answered by %v, and node %d has no replica", answered, away)
	}
	// Through another node: what was acknowledged is there, and at most the one that
	// was in flight besides.
	stream, err := recordsOf(t, c.http[away%4]).Consume(t.Context(), connect.NewRequest(&v1.ConsumeRequest{Topic: "lines", Text: true, UntilEnd: true}))
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for stream.Receive() {
		for _, r := range stream.Msg().Records {
			if r.GetValueText() != fmt.Sprint(n) {
				t.Fatalf("%q at offset %d, want %d", r.GetValueText(), r.Offset, n)
			}
			n++
		}
	}
	if err := stream.Err(); err != nil || n < at || n > written.Load()+1 {
		t.Errorf("%d records are there, %d to %d were acknowledged: %v", n, at, written.Load(), err)
	}
	t.Logf("%d records, answered by %v", n, answered)
}
