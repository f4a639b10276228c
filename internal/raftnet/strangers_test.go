package raftnet

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines collects log lines.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestStrangers: whatever comes to the peer port is closed, and many of it are
// one log line that says who and what to do.
func TestStrangers(t *testing.T) {
	d := newDirectory(t)
	var log lines
	startNode(t, d, 2, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	addr, _ := d.PeerAddr(2)
	long := make([]byte, preludeLen)
	copy(long, magic)
	binary.BigEndian.PutUint16(long[8:], 65535)
	spoilt := (&hello{version: 1, lowest: 1, from: identityOf(1), target: 2}).encode()
	spoilt[15] ^= 1
	for _, send := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", string(long), string(spoilt),
		strings.Repeat("\xaa", 5000), "\x00\x00\x00\x10\x00\x12\x00\x00aaaaaaaaaaaa", "RSMN",
	} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, send)
		nc.(*net.TCPConn).CloseWrite()
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		if got, err := io.ReadAll(nc); len(got) > 0 {
			t.Errorf("%.20q was answered with %x (%v)", send, got, err)
		}
		nc.Close()
	}
	waitFor(t, "the line", func() bool { return strings.Contains(log.String(), "stranger") })
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "127.0.0.1") || !strings.Contains(got, "--kafka-addr") {
		t.Errorf("logged %s, want one line", got)
	}
}

// TestHalfOpenHandshakes: thousands of connections that say nothing hold a
// bounded number of places, and are gone when their time is over: then a node
// from the same address gets in.
func TestHalfOpenHandshakes(t *testing.T) {
	d := newDirectory(t)
	n := startNode(t, d, 2, nil)
	addr, _ := d.PeerAddr(2)
	for range 3000 {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	state := func() (total, refused int) {
		n.door.mu.Lock()
		defer n.door.mu.Unlock()
		return n.door.total, n.door.refused
	}
	waitFor(t, "all to be accepted or closed", func() bool {
		total, refused := state()
		return total+refused >= 3000 || total == 0
	})
	total, refused := state()
	t.Logf("%d are shaking hands, %d were closed unheard", total, refused)
	if total > maxHostHandshakes {
		t.Errorf("%d handshakes from one address, limit %d", total, maxHostHandshakes)
	}
	one := startNode(t, d, 1, nil)
	waitFor(t, "nodes to see each other", func() bool { return one.Alive(2) })
}

// TestOversizeFrame: a peer's frame above the limit, or with a wrong checksum,
// ends its connection before anything of that size is allocated.
func TestOversizeFrame(t *testing.T) {
	for name, spoil := range map[string]func(b []byte){
		"oversize": func(b []byte) {
			h := header{length: MaxPayload + 1, kind: kindPing}
			h.put(b)
		},
		"checksum": func(b []byte) { b[0] ^= 0x40 },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirectory(t)
			startNode(t, d, 2, nil)
			addr, _ := d.PeerAddr(2)
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			h := hello{version: 1, lowest: 1, from: identityOf(1), target: 2, class: Control}
			nc.Write(h.encode())
			nc.SetReadDeadline(time.Now().Add(10 * time.Second))
			if a, err := readAnswer(nc); err != nil || a.status != statusWelcome {
				t.Fatalf("%+v, %v", a, err)
			}
			f, err := simpleFrame(kindPing, 0, 1, 0, 0, []byte("ping"))
			if err != nil {
				t.Fatal(err)
			}
			b := bytesOf(f)
			spoil(b)
			nc.Write(b)
			if got, err := io.ReadAll(nc); len(got) > 0 || err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("got %x, %v; want a closed connection", got, err)
			}
		})
	}
}
