package httpgateway

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/raftsman/raftsman/internal/gateway"
)

// A request that is refused for its size must not be taken for two: what follows on
// its connection is not looked at.
func TestRestIsNoRequest(t *testing.T) {
	g, err := New(Options{Backend: lonely{}, Kafka: "127.0.0.1:1", Logger: slog.New(slog.DiscardHandler), Limits: Limits{MaxRequestBytes: 1 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := gateway.New(gateway.Options{Listener: ln, API: g.Handler(), APIPaths: Paths()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	hidden := "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
	body := strings.Repeat("x", 1<<10+envelope) + strings.Repeat(hidden, 8000)
	go fmt.Fprintf(nc, "POST /raftsman.v1.RecordService/Produce HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	answers := 0
	for s := bufio.NewScanner(nc); s.Scan(); {
		if strings.Contains(s.Text(), "HTTP/1.1 ") {
			answers++
		}
	}
	if answers != 1 {
		t.Errorf("%d answers to one request", answers)
	}
}
