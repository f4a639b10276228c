package kafka

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"
)

// pipeServer is a server without sockets.
func pipeServer(t testing.TB) (*Server, *memBackend) {
	back := newMemBackend()
	back.brokers = []Broker{{ID: 1, Host: "localhost", Port: 9092}}
	back.mustCreate("t", 2)
	s, err := New(Options{
		Listeners: []Listener{{Name: "default", Net: noListener{}}}, Backend: back,
		Logger: slog.New(slog.DiscardHandler),
		Limits: Limits{MaxRequestBytes: 1 << 22, MaxControlBytes: 1 << 21, CreateWait: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, back
}

type noListener struct{ net.Listener }

// serveBytes runs a connection whose client sends data, reads everything and
// leaves.
func serveBytes(s *Server, data []byte) {
	client, server := net.Pipe()
	go io.Copy(io.Discard, client)
	go func() {
		client.Write(data)
		client.Close()
	}()
	ctx, cancel := context.WithCancel(context.Background())
	newConn(s, Listener{Name: "default"}, server, cancel).serve(ctx)
}

// Whatever a client sends, nothing panics, and the connection ends when the
// client leaves.
func FuzzConn(f *testing.F) {
	s, _ := pipeServer(f)
	for _, a := range s.apis.rows {
		for v := a.min; v <= a.max; v++ {
			req := a.newRequest()
			f.Add(frameOf(req, v, 1))
			fill(reflect.ValueOf(req).Elem())
			f.Add(frameOf(req, v, 1))
		}
	}
	f.Add(append(frameOf(produceReq("t", [16]byte{}, 0, -1, testBatch(10)), 9, 1), frameOf(fetchReq("t", [16]byte{}, 0, 0, 1), 12, 2)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, back := pipeServer(t)
		start := time.Now()
		serveBytes(s, data)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("took %v", took)
		}
		requests, _ := s.requests.inUse()
		responses, _ := s.outgoing.inUse()
		if requests != 0 || responses != 0 {
			t.Errorf("%d bytes of requests and %d of responses are still counted", requests, responses)
		}
		for i := range 2 {
			if info, ok := back.Topic("t"); ok && i < len(info.Partitions) && back.part("t", i).outstanding() != 0 {
				t.Error("data was not released")
			}
		}
	})
}

// FuzzDecode finds bodies that the shape lets through and kmsg can't bear.
func FuzzDecode(f *testing.F) {
	s, _ := pipeServer(f)
	for _, a := range s.apis.rows {
		for v := a.min; v <= a.max; v++ {
			req := a.newRequest()
			fill(reflect.ValueOf(req).Elem())
			req.SetVersion(v)
			f.Add(a.key, v, req.AppendTo(nil), uint16(0), byte(0))
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte, at uint16, add byte) {
		a := s.apis.find(key)
		if a == nil || !a.supports(version) {
			return
		}
		body = slices.Clip(body)
		if len(body) > 0 { // one byte of a good request is what most bugs take
			body = slices.Clone(body)
			body[int(at)%len(body)] += add
		}
		start := time.Now()
		decode(a, version, a.flexible(version), slices.Clip(body))
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s version %d took %v", a.name, version, took)
		}
	})
}

// Frames that announce more than they bring cost next to nothing.
func TestFalseCountsAreCheap(t *testing.T) {
	s, _ := pipeServer(t)
	for _, a := range s.apis.rows {
		for v := a.min; v <= a.max; v++ {
			req := a.newRequest()
			fill(reflect.ValueOf(req).Elem())
			whole := frameOf(req, v, 1)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			n := 0
			for at := 17; at+4 <= len(whole); at += 3 {
				bad := append([]byte(nil), whole...)
				copy(bad[at:], "\xff\xff\xff\x7f") // a large number in either encoding
				bad = append(bad, make([]byte, 1000)...)
				binary.BigEndian.PutUint32(bad, uint32(len(bad)-4))
				serveBytes(s, bad)
				n++
			}
			runtime.ReadMemStats(&after)
			if per := (after.TotalAlloc - before.TotalAlloc) / uint64(max(n, 1)); per > 1<<20 {
				t.Errorf("%s version %d: %d bytes a frame", a.name, v, per)
			}
		}
	}
}
