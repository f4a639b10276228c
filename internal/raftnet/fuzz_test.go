package raftnet

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// sealFrames makes the checksums of frames right as far as their lengths lead,
// and bounds those lengths, or a fuzzer would never get past either.
func sealFrames(b []byte) (ends []int) {
	at := 0
	for len(b)-at >= headerLen {
		h := b[at:]
		n := int(binary.BigEndian.Uint32(h))
		if n > len(h)-headerLen {
			n = min(n%(1+len(h)-headerLen), len(h)-headerLen)
			binary.BigEndian.PutUint32(h, uint32(n))
		}
		binary.BigEndian.PutUint32(h[32:], crc32.Checksum(h[headerLen:headerLen+n], castagnoli))
		binary.BigEndian.PutUint32(h[36:], crc32.Checksum(h[:36], castagnoli))
		at += headerLen + n
		ends = append(ends, at)
	}
	return ends
}

// FuzzFrames reads frames, sealed or as they come, with one byte spoilt after
// that: those before it are read as they are, nothing from it on is.
func FuzzFrames(f *testing.F) {
	fr, err := encodeAppend(entries(3, 2, 20), 9, 2, 77)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytesOf(fr), true, uint16(70), byte(1))
	f.Add(bytesOf(errorFrame(header{kind: 1}, codeBusy, "x")), true, uint16(3), byte(0))
	f.Add(bytesOf(fr), false, uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, sealed bool, at uint16, xor byte) {
		if !sealed {
			readFrames(b)
			return
		}
		b = slices.Clone(b)
		ends := sealFrames(b)
		whole := slices.Clone(b)
		good := len(ends)
		if xor != 0 && len(b) > 0 {
			where := int(at) % len(b)
			b[where] ^= xor
			good, _ = slices.BinarySearch(ends, where+1)
		}
		m, _ := newMetrics(nil)
		c := newConn(fakeConn{r: bytes.NewReader(b)}, Data, 0, 2, "", m)
		n, at0 := 0, 0
		_ = c.readLoop(func(header) bool { return true }, func(h header, p []byte) error {
			if n == len(ends) || n >= good {
				t.Fatalf("frame %d was read, %d are good", n, good)
			}
			again := make([]byte, headerLen)
			h.put(again)
			want := whole[at0:ends[n]]
			copy(again[6:8], want[6:8]) // reserved
			if !bytes.Equal(again[:36], want[:36]) || !bytes.Equal(p, want[headerLen:]) {
				t.Fatalf("frame %d is not what was sent", n)
			}
			at0 = ends[n]
			n++
			return nil
		})
		if n != good {
			t.Fatalf("%d of %d good frames were read", n, good)
		}
	})
}

// FuzzRequests: what a request is understood as must be what its bytes say, so
// it is encoded again, byte for byte where the encoding is unique.
func FuzzRequests(f *testing.F) {
	add := func(fr *frame, err error) {
		if err != nil {
			f.Fatal(err)
		}
		b := bytesOf(fr)
		f.Add(b[4], b[headerLen:])
	}
	add(encodeAppend(entries(3, 2, 20), 9, 2, 77))
	add(encodeVote(&raft.RequestVoteRequest{Term: 3, LastLogTerm: 2, LeadershipTransfer: true}, 9, 2, 77))
	add(encodePreVote(&raft.RequestPreVoteRequest{Term: 3}, 9, 2, 77))
	add(encodeTimeoutNow(&raft.TimeoutNowRequest{}, 9, 2, 77))
	add(encodeInstall(&raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: configuration()}, []byte("m"), 9, 2, 77))
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		cmd, body, err := decodeRequest(kind, 77, slices.Clone(b))
		if err != nil {
			return
		}
		var fr *frame
		switch r := cmd.(type) {
		case *raft.AppendEntriesRequest:
			fr, err = encodeAppend(r, 9, 2, 77)
		case *raft.InstallSnapshotRequest:
			fr, err = encodeInstall(r, body, 9, 2, 77)
		case *raft.RequestVoteRequest:
			if fr, err = encodeVote(r, 9, 2, 77); len(b) > 0 && b[len(b)-1] > 1 {
				return // any other number is true as well
			}
		case *raft.RequestPreVoteRequest:
			fr, err = encodePreVote(r, 9, 2, 77)
		case *raft.TimeoutNowRequest:
			fr, err = encodeTimeoutNow(r, 9, 2, 77)
		}
		if err != nil {
			t.Fatal(err)
		}
		again := bytesOf(fr)[headerLen:]
		if !bytes.Equal(again, b) {
			if _, body2, err := decodeRequest(kind, 77, again); err != nil || !bytes.Equal(body, body2) || len(again) != len(b) {
				t.Fatalf("%+v is %x, came from %x (%v)", cmd, again, b, err)
			}
			second, _, _ := decodeRequest(kind, 77, again)
			if !reflect.DeepEqual(cmd, second) {
				t.Fatalf("%+v became %+v", cmd, second)
			}
		}
	})
}

func FuzzResponses(f *testing.F) {
	f.Add([]byte{3, 0, 0, 0, 0, 0, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, out := range []any{&raft.AppendEntriesResponse{}, &raft.RequestVoteResponse{}, &raft.RequestPreVoteResponse{}, &raft.TimeoutNowResponse{}, &raft.InstallSnapshotResponse{}} {
			if decodeResponse(b, 2, out) != nil {
				continue
			}
			again := bytesOf(encodeResponse(header{kind: 1}, raft.RPCResponse{Response: out}))[headerLen:]
			second := reflect.New(reflect.TypeOf(out).Elem()).Interface()
			if err := decodeResponse(again, 2, second); err != nil || !reflect.DeepEqual(out, second) {
				t.Fatalf("%+v became %+v: %v", out, second, err)
			}
		}
		_ = decodeError(b)
	})
}

// FuzzHandshake reads handshake messages whose length and checksum are right.
func FuzzHandshake(f *testing.F) {
	h := hello{version: 1, lowest: 1, from: identityOf(1), target: 2, class: Data, slot: 1}
	a := answer{version: 1, lowest: 1, status: 1, from: identityOf(2), reason: "because"}
	f.Add(h.encode(), true)
	f.Add(a.encode(), true)
	f.Add(h.encode()[:20], false)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed && len(b) > preludeLen+4 && len(b) < maxHandshake {
			body := b[preludeLen : len(b)-4]
			b = seal(binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), body)
		}
		if h, err := readHello(bufio.NewReader(bytes.NewReader(b))); err == nil {
			judge(h, identityOf(2), nil)
			if again, err := readHello(bytes.NewReader(h.encode())); err != nil || again != h {
				t.Fatalf("%+v became %+v: %v", h, again, err)
			}
		}
		if a, err := readAnswer(bufio.NewReader(bytes.NewReader(b))); err == nil {
			judgeAnswer(a, identityOf(1), 2, nil)
			if a.reason = a.reason[:min(len(a.reason), maxErrorText)]; len(a.reason) <= maxErrorText {
				if again, err := readAnswer(bytes.NewReader(a.encode())); err != nil || again != a {
					t.Fatalf("%+v became %+v: %v", a, again, err)
				}
			}
		}
	})
}

const echoKind = FirstUserKind + 1

// FuzzConnection feeds a whole connection to a node that holds a replica: a
// handshake, then frames. Each request gets at most one reply, in a good frame,
// and an echo brings back its own bytes.
func FuzzConnection(f *testing.F) {
	var all []byte
	add := func(fr *frame, err error) {
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, bytesOf(fr)...)
	}
	dst := replica(1, 2)
	add(encodeAppend(entries(3, 2, 20), 9, dst, 101))
	add(simpleFrame(kindPing, 0, 10, 0, 0, []byte("ping")))
	add(simpleFrame(echoKind, 0, 11, 0, 0, bytes.Repeat([]byte("echo"), 100)))
	for i := range byte(8) { // small ones, one after the other
		add(simpleFrame(echoKind, 0, uint64(20+i), 0, 0, bytes.Repeat([]byte{i}, 100+int(i))))
	}
	add(encodeVote(&raft.RequestVoteRequest{Term: 3}, 12, dst, 101))
	add(encodeInstall(&raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: configuration()}, []byte("m"), 13, dst, 101))
	add(encodeTimeoutNow(&raft.TimeoutNowRequest{}, 14, 999, 101))
	beat := binary.BigEndian.AppendUint64([]byte{3}, dst)
	beat = append(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(beat, 101), 3), make([]byte, 24)...)
	add(simpleFrame(kindBeats, 0, 15, 0, 0, beat))
	add(simpleFrame(kindBeats, 0, 16, 0, 0, append(beat, beat[1:]...)))
	add(simpleFrame(kindBeats, flagOneWay, 17, 0, 0, beat))
	for class := range byte(4) {
		f.Add(all, class, int32(2))
	}
	f.Add(all, byte(1), int32(3))
	n := openNode(f, &directory{addrs: make(map[int32]string)}, 2, nil)
	n.Handle(echoKind, func(_ int32, p []byte) ([]byte, error) { return p, nil })
	tr := openGroup(f, n, dst)
	answerRaft(f, tr)
	f.Fuzz(func(t *testing.T, b []byte, class byte, target int32) {
		if len(b) > 1<<15 {
			return
		}
		b = slices.Clone(b)
		ends := sealFrames(b)
		asked := make(map[uint64]int)
		echoes := make(map[uint64][][]byte)
		at := 0
		for _, end := range ends {
			h, err := parseHeader(b[at:])
			if err != nil {
				t.Fatal(err)
			}
			if h.flags&(flagReply|flagError|flagOneWay) == 0 {
				asked[h.id]++
				if h.kind == echoKind {
					echoes[h.id] = append(echoes[h.id], b[at+headerLen:end])
				}
			}
			at = end
		}
		client, server := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			n.serve(server, func() {})
		}()
		// A hang is what the deadline is for; nothing is measured.
		client.SetDeadline(time.Now().Add(20 * time.Second))
		hello := hello{version: 1, lowest: 1, from: identityOf(1), target: target, class: Class(class), slot: 0}
		go client.Write(hello.encode())
		a, err := readAnswer(client)
		if err != nil {
			t.Fatalf("a good hello got no answer: %v", err)
		}
		if (a.status == statusWelcome) != (target == 2 && class <= byte(Bulk)) {
			t.Fatalf("hello to node %d, class %d: status %d, %q", target, class, a.status, a.reason)
		}
		if a.status != statusWelcome {
			client.Close()
			<-served
			return
		}
		// The last frame is a ping: when its answer is there, all were read.
		const lastID = 1<<63 + 5
		last, err := simpleFrame(kindPing, 0, lastID, 0, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		go client.Write(append(b[:at:at], bytesOf(last)...))
		br := bufio.NewReader(client)
		for {
			head := make([]byte, headerLen)
			if _, err := io.ReadFull(br, head); err != nil {
				t.Fatalf("the connection broke, though every frame was good: %v", err)
			}
			h, err := parseHeader(head)
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, h.length)
			if _, err := io.ReadFull(br, p); err != nil {
				t.Fatal(err)
			}
			if crc32.Checksum(p, castagnoli) != h.crc || h.flags&flagReply == 0 {
				t.Fatalf("bad reply %+v", h)
			}
			if h.id == lastID {
				break
			}
			if asked[h.id]--; asked[h.id] < 0 {
				t.Fatalf("reply to %d, which was not asked, or again", h.id)
			}
			if h.kind == echoKind && h.flags&flagError == 0 && !slices.ContainsFunc(echoes[h.id], func(e []byte) bool { return bytes.Equal(e, p) }) {
				t.Fatalf("echo %d came back as %x", h.id, p)
			}
		}
		client.Close()
		<-served
	})
}

// answerRaft stands in for raft.
func answerRaft(f *testing.F, tr *Transport) {
	stop := make(chan struct{})
	f.Cleanup(func() { close(stop) })
	go func() {
		for {
			select {
			case rpc := <-tr.Consumer():
				rpc.Respond(agree(rpc))
			case <-stop:
				return
			}
		}
	}()
}
