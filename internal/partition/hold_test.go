package partition

import (
	"context"
	"testing"
)

// TestHold: nothing is taken from the queue while it is held, hold waits for what
// is in flight, and release lets the queue go on.
func TestHold(t *testing.T) {
	p := &Partition{ready: make(chan struct{}, 1), accepting: true}
	p.queue = []pending{{batch: []byte("a")}, {batch: make([]byte, maxEntryBytes)}}
	if n := len(p.take(smallSegment)); n != 1 {
		t.Fatalf("took %d batches, want the first", n)
	}
	held := make(chan func())
	go func() { held <- p.hold(t.Context()) }()
	select {
	case <-held:
		t.Fatal("hold did not wait for the entry in flight")
	case <-p.ready:
		t.Fatal("the proposer was woken while an entry is in flight")
	default:
	}
	p.landed()
	release := <-held
	if n := len(p.take(smallSegment)); n > 0 {
		t.Fatalf("took %d batches while the queue is held", n)
	}
	release()
	<-p.ready
	if n := len(p.take(smallSegment)); n != 1 {
		t.Fatalf("took %d batches after the release, want the second", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	p.hold(ended)() // returns although an entry is in flight
}
