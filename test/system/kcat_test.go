//go:build system

package system

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestKcatThroughKills writes lines with an idempotent kcat while the
// partition's leader is killed three times; kcat reads back each line once, in
// order.
func TestKcatThroughKills(t *testing.T) {
	c := startCluster(t, 3, 10*time.Second)
	c.create("lines", 1)
	producer := exec.CommandContext(t.Context(), "kcat", "-b", strings.Join(c.kafka, ","), "-P", "-t", "lines", "-p", "0",
		"-X", "enable.idempotence=true", "-X", "acks=all", "-X", "linger.ms=5", "-q", "-E")
	stdin, err := producer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	producer.Stderr = &complaints
	if err := producer.Start(); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	kills, next := 0, time.Now().Add(time.Second)
	end := time.Now().Add(12 * time.Second)
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for n := 0; time.Now().Before(end); <-pace.C {
		for range 50 {
			line := fmt.Sprintf("%d of many lines\n", n)
			n++
			want.WriteString(line)
			if _, err := stdin.Write([]byte(line)); err != nil {
				t.Fatalf("kcat takes no more: %v\n%s", err, complaints.String())
			}
		}
		if time.Now().After(next) && kills < 3 {
			if leader := c.leader("lines", 0); leader > 0 {
				c.node(leader).kill()
				c.node(leader).start()
				kills++
				next = time.Now().Add(3 * time.Second)
			}
		}
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := producer.Wait(); err != nil {
		t.Fatalf("kcat: %v\n%s", err, complaints.String())
	}
	if kills != 3 {
		t.Fatalf("%d kills, want 3", kills)
	}
	got := command(t, "", "kcat", "-b", strings.Join(c.kafka, ","), "-C", "-t", "lines", "-e", "-q")
	if string(got) != want.String() {
		gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(want.String(), "\n")
		for i := range min(len(gotLines), len(wantLines)) {
			if gotLines[i] != wantLines[i] {
				t.Fatalf("line %d is %q, want %q; %d lines, want %d", i, gotLines[i], wantLines[i], len(gotLines), len(wantLines))
			}
		}
		t.Fatalf("%d lines, want %d", len(gotLines), len(wantLines))
	}
}
