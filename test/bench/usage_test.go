package main

import (
	"math"
	"os"
	"testing"
	"time"
)

func TestParseProc(t *testing.T) {
	line := "4321 (a (b) c) S 17 4321 1 0 -1 4194560 100 200 0 0 150 50 30 20 20 0 9 0 1234 1000 10 1844\n"
	pid, p, err := parseProc([]byte(line))
	if err != nil || pid != 4321 || p != (procCPU{parent: 17, own: 2, reaped: 0.5}) {
		t.Errorf("%d %+v %v", pid, p, err)
	}
	_, p, err = parseProc([]byte("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 7 0 0 20 0 1 0 5 0 0"))
	if err != nil || !p.kernel || p.own != 0.07 {
		t.Errorf("a kernel thread: %+v %v", p, err)
	}
	for _, bad := range []string{"", "12", "12 (x", "x (x) S 1", "12 (x) S 1 2 3", ") 1 (", "1 (x) S 1 1 1 0 -1 many 1 1 1 1 1 1 1 1 1 1"} {
		if _, _, err := parseProc([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseMachine(t *testing.T) {
	m, err := parseMachine([]byte("cpu  100 200 300 99999 88888 10 20 40 7 7\ncpu0 1 2 3\n"))
	if err != nil || m != (machineCPU{busy: 6.3, steal: 0.4}) {
		t.Errorf("%+v %v", m, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", "cpu a b c d e f g h"} {
		if _, err := parseMachine([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzParseProc(f *testing.F) {
	f.Add([]byte("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 7 0 0 20 0 1 0 5 0 0"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _, _ = parseProc(text)
		_, _ = parseMachine(text)
	})
}

func TestBetween(t *testing.T) {
	at := time.Unix(0, 0)
	a := sample{at: at, machine: machineCPU{busy: 100, steal: 1}, procs: map[int]procCPU{
		2:  {kernel: true, own: 5},
		10: {own: 1, reaped: 50},    // us
		20: {parent: 10, own: 3},    // a node
		30: {own: 7, reaped: 2},     // a stranger
		31: {parent: 30, own: 1000}, // its child, which is busy no more
		50: {own: 1},                // another one, with a child that has worked long, and will end
		51: {parent: 50, own: 1000, reaped: 500},
	}}
	b := sample{at: at.Add(10 * time.Second), machine: machineCPU{busy: 120, steal: 1.5}, procs: map[int]procCPU{
		2:  {kernel: true, own: 6},
		10: {own: 5, reaped: 60},  // a killed node of ours was reaped: not a stranger's time
		20: {parent: 10, own: 9},  // 6 seconds
		21: {parent: 20, own: 1},  // its new child
		22: {parent: 10, own: 2},  // etcd, new
		30: {own: 7.5, reaped: 3}, // a command of a second among it
		31: {parent: 30, own: 1000},
		40: {own: 0.25}, // new
		50: {own: 1, reaped: 1500.125},
	}}
	u := between(a, b, 10, map[int]string{20: "node", 22: "etcd"})
	if u.Client != 4 || u.Roles["node"] != 7 || u.Roles["etcd"] != 2 || u.Kernel != 1 || u.Others != 1.875 || u.Stolen != 0.5 {
		t.Errorf("%+v", u)
	}
	if u.servers() != 9 || math.Abs(u.foreign()-0.2375) > 1e-9 {
		t.Errorf("servers %v, foreign %v", u.servers(), u.foreign())
	}
	both := u.plus(u)
	if both.Seconds != 20 || both.servers() != 18 || both.foreign() != u.foreign() || u.Roles["node"] != 7 {
		t.Errorf("twice: %+v, once: %+v", both, u)
	}

	// In a container strangers can't be seen: what can't be explained is theirs.
	delete(a.procs, 2)
	delete(b.procs, 2)
	if u := between(a, b, 10, map[int]string{20: "node", 22: "etcd"}); u.Others != 20-4-9 {
		t.Errorf("without the kernel's threads: %+v", u)
	}
}

// TestOwnCPU burns a little, and finds it again as its own.
func TestOwnCPU(t *testing.T) {
	a, err := takeSample()
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, err := takeSample()
		if err != nil {
			t.Fatal(err)
		}
		if u := between(a, b, os.Getpid(), nil); u.Client >= 0.05 {
			return
		} else if u.Seconds > 60 {
			t.Fatalf("a minute of reading /proc used %+v", u)
		}
	}
}
