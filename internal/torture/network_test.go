package torture

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// TestWire passes bytes, holds those of one direction, and breaks connections.
func TestWire(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // answers with what it got
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	n := newNetwork()
	defer n.close()
	w, err := n.wire(etcdNode, ln.Addr().String(), false)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", w.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	echo := func(text string) error {
		if _, err := c.Write([]byte(text)); err != nil {
			return err
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(c, got); err != nil {
			return err
		}
		if !bytes.Equal(got, []byte(text)) {
			t.Errorf("got %q, want %q", got, text)
		}
		return nil
	}
	for _, r := range []rule{{}, {delay: time.Millisecond}, {stall: 1}} {
		n.set(r, false, [2]int32{-1, etcdNode})
		if err := echo("hello"); err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
	}
	back := [2]int32{etcdNode, -1}
	n.set(rule{held: true}, false, back)
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if err := echo("held"); err == nil {
		t.Error("bytes came back while they were held")
	}
	n.set(rule{}, false, back)
	c.SetReadDeadline(time.Time{})
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "held" {
		t.Errorf("after that: %q, %v", got, err)
	}
	n.set(rule{}, true, back)
	if _, err := c.Read(got); err == nil {
		t.Error("the connection was not broken")
	}
}
