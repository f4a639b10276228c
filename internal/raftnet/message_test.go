package raftnet

import (
	"bytes"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func bytesOf(f *frame) []byte { return bytes.Join(f.pieces, nil) }

// through encodes a request and decodes it as the receiver does.
func through(t *testing.T, f *frame, err error) (any, []byte) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	b := bytesOf(f)
	h, err := parseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	if int(h.length) != len(b)-headerLen || h.dst != 2 || h.src != 77 || h.id != 9 {
		t.Fatalf("header %+v of %d bytes", h, len(b))
	}
	cmd, body, err := decodeRequest(h.kind, h.src, b[headerLen:])
	if err != nil {
		t.Fatal(err)
	}
	return cmd, body
}

func configuration() []byte {
	return raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "77", Address: "77"}}})
}

func TestRequestsSurviveTheWire(t *testing.T) {
	head := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("77"), Addr: []byte("77")}
	appendReq := &raft.AppendEntriesRequest{RPCHeader: head, Term: 1 << 60, PrevLogEntry: 41, PrevLogTerm: 5, LeaderCommitIndex: 40,
		Entries: []*raft.Log{
			{Index: 42, Term: 5, Type: raft.LogCommand, Data: []byte("small"), Extensions: bytes.Repeat([]byte("x"), 3000), AppendedAt: time.Unix(12, 34)},
			{Index: 43, Term: 6, Type: raft.LogNoop},
			{Index: 44, Term: 6, Type: raft.LogCommand, Data: bytes.Repeat([]byte("big"), 5000)},
			{Index: 45, Term: 6, Type: raft.LogConfiguration, Data: configuration()},
		}}
	for _, want := range []any{
		appendReq,
		&raft.AppendEntriesRequest{RPCHeader: head, Term: 3},
		&raft.RequestVoteRequest{RPCHeader: head, Term: 3, LastLogIndex: 4, LastLogTerm: 5, LeadershipTransfer: true},
		&raft.RequestPreVoteRequest{RPCHeader: head, Term: 3, LastLogIndex: 4, LastLogTerm: 5},
		&raft.TimeoutNowRequest{RPCHeader: head},
		&raft.InstallSnapshotRequest{RPCHeader: head, SnapshotVersion: 1, Term: 3, LastLogIndex: 4, LastLogTerm: 5,
			Configuration: configuration(), ConfigurationIndex: 6, Peers: []byte("peers"), Size: 8},
	} {
		var f *frame
		var err error
		switch r := want.(type) {
		case *raft.AppendEntriesRequest:
			f, err = encodeAppend(r, 9, 2, 77)
		case *raft.RequestVoteRequest:
			f, err = encodeVote(r, 9, 2, 77)
		case *raft.RequestPreVoteRequest:
			f, err = encodePreVote(r, 9, 2, 77)
		case *raft.TimeoutNowRequest:
			f, err = encodeTimeoutNow(r, 9, 2, 77)
		case *raft.InstallSnapshotRequest:
			f, err = encodeInstall(r, []byte("manifest"), 9, 2, 77)
		}
		got, body := through(t, f, err)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if _, ok := want.(*raft.InstallSnapshotRequest); ok && string(body) != "manifest" {
			t.Errorf("body %q", body)
		}
	}
}

func TestResponsesSurviveTheWire(t *testing.T) {
	head := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("2"), Addr: []byte("2")}
	for _, want := range []any{
		&raft.AppendEntriesResponse{RPCHeader: head, Term: 1, LastLog: 2, Success: true},
		&raft.AppendEntriesResponse{RPCHeader: head, Term: 1, LastLog: 2, NoRetryBackoff: true},
		&raft.RequestVoteResponse{RPCHeader: head, Term: 1, Granted: true},
		&raft.RequestPreVoteResponse{RPCHeader: head, Term: 1, Granted: true},
		&raft.TimeoutNowResponse{RPCHeader: head},
		&raft.InstallSnapshotResponse{RPCHeader: head, Term: 1, Success: true},
	} {
		b := bytesOf(encodeResponse(header{kind: 1, id: 9, dst: 2, src: 77}, raft.RPCResponse{Response: want}))
		got := reflect.New(reflect.TypeOf(want).Elem()).Interface()
		if err := decodeResponse(b[headerLen:], 2, got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestDamagedFramesAreRefused(t *testing.T) {
	f, err := simpleFrame(kindPing, 0, 1, 0, 0, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	good := bytesOf(f)
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if n := readFrames(bad); n != 0 {
				t.Fatalf("a frame with bit %d of byte %d flipped was taken", bit, i)
			}
		}
	}
	if n := readFrames(append(bytes.Clone(good), good...)); n != 2 {
		t.Fatalf("%d of 2 frames were read", n)
	}
	big := newFrame(0)
	big.data(make([]byte, MaxPayload+1))
	if err := big.finish(kindPing, 0, 1, 0, 0); err == nil {
		t.Error("a frame above the limit was built")
	}
}

// readFrames reads bytes as a connection would, and counts the good frames.
func readFrames(b []byte) (n int) {
	m, _ := newMetrics(nil)
	c := newConn(fakeConn{r: bytes.NewReader(b)}, Data, 0, 2, "", m)
	c.readLoop(func(h header) bool { return h.length < 1<<16 }, func(h header, p []byte) error {
		n++
		cmd, _, err := decodeRequest(h.kind, h.src, p)
		if err == nil && cmd == nil {
			panic("neither command nor error")
		}
		return nil
	})
	return n
}

type fakeConn struct {
	net.Conn
	r *bytes.Reader
}

func (c fakeConn) Read(b []byte) (int, error) { return c.r.Read(b) }

func TestHandshakeMessages(t *testing.T) {
	h := hello{version: 4, lowest: 2, from: identityOf(1), target: 2, class: Bulk, slot: 3}
	got, err := readHello(bytes.NewReader(h.encode()))
	if err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
	a := answer{version: 1, lowest: 1, status: 1, from: identityOf(2), reason: strings.Repeat("r", 5000)}
	gotAnswer, err := readAnswer(bytes.NewReader(a.encode()))
	a.reason = a.reason[:maxErrorText]
	if err != nil || gotAnswer != a {
		t.Errorf("%+v, %v", gotAnswer, err)
	}
	for _, v := range []struct {
		version, lowest uint16
		ok              bool
	}{{1, 1, true}, {9, 1, true}, {9, 2, false}, {0, 0, false}} {
		h.version, h.lowest = v.version, v.lowest
		version, reason := judge(h, identityOf(2), nil)
		if ok := reason == ""; ok != v.ok || ok && version != 1 {
			t.Errorf("versions %d to %d: %d, %q", v.lowest, v.version, version, reason)
		}
	}
}
