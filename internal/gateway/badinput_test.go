package gateway

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestBadRequests: what is no request, or too large a one, gets an error and a
// closed connection.
func TestBadRequests(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Listener: ln})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for name, tc := range map[string]struct{ send, want string }{
		"large header": {"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 100<<10) + "\r\n\r\n", "431"},
		"TLS hello":    {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"},
		"Kafka":        {"\x00\x00\x00\x10\x00\x12\x00\x00aaaaaaaaaaaa\r\n\r\n", "400"},
		"no host":      {"GET /healthz HTTP/1.1\r\n\r\n", "400"},
	} {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		// The server may answer and close before it has read everything.
		_, _ = io.WriteString(nc, tc.send)
		nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		got, _ := io.ReadAll(nc)
		if len(got) > 0 && !strings.Contains(string(got), tc.want) {
			t.Errorf("%s: got %.100q, want %s", name, got, tc.want)
		}
		if len(got) == 0 && name != "large header" { // a reset may eat that answer
			t.Errorf("%s: no answer", name)
		}
		nc.Close()
	}
}
