//go:build system

package system

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// catchUpBytes are written while a follower is away: RAFTSMAN_CATCHUP_BYTES, or
// 256 MiB.
func catchUpBytes(t *testing.T) int64 {
	text := os.Getenv("RAFTSMAN_CATCHUP_BYTES")
	if text == "" {
		return 256 << 20
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 32<<20 {
		t.Fatalf("RAFTSMAN_CATCHUP_BYTES=%q: want a number of bytes, 33554432 at least", text)
	}
	return n
}

// TestCatchUp lets followers miss more than the write-ahead log holds, beside an
// idle, a trickling and a quorumless partition, does harm while they are being
// sent segments, and compares what all replicas have in the end. No node's log
// exceeds its limit at any time.
func TestCatchUp(t *testing.T) {
	for _, test := range []catchUp{
		{name: "leader killed", replicas: 3, away: 1, harm: func(u *catchUpRun) { u.kill(u.c.leader("big", 0)) }},
		{name: "follower killed", replicas: 3, away: 1, harm: func(u *catchUpRun) { u.kill(u.away[0]) }},
		{name: "two followers, leader killed", replicas: 5, away: 2, harm: func(u *catchUpRun) { u.kill(u.c.leader("big", 0)) }},
	} {
		t.Run(test.name, test.run)
	}
}

type catchUp struct {
	name     string
	replicas int // of the partition that is written to
	away     int // how many of them are behind
	harm     func(*catchUpRun)
}

type catchUpRun struct {
	t    *testing.T
	c    *cluster
	away []int // followers that fall behind
	dead []int // nodes that hold no replica of it, and never come back
}

func (u *catchUpRun) kill(id int) {
	u.t.Helper()
	if id == 0 {
		u.t.Fatal("the partition has no leader to kill")
	}
	u.t.Logf("killing node %d", id)
	u.c.node(id).kill()
	u.c.node(id).start()
	u.c.waitReady(id)
}

// walFlags are the log's limit and file size: the defaults with 2 GiB or more,
// else a quarter of what is written.
func walFlags(bytes int64) (limit, file int64) {
	limit = bytes / 4
	if bytes >= 2<<30 {
		limit = 1 << 30
	}
	file = 1 << 20
	for file < limit/16 {
		file <<= 1
	}
	return limit, file
}

func (test catchUp) run(t *testing.T) {
	bytes := catchUpBytes(t)
	limit, file := walFlags(bytes)
	rate := min(100<<20, bytes/8) // slow enough to be caught in the act
	c := startCluster(t, 5, 10*time.Second, "--wal-size-limit", fmt.Sprint(limit), "--wal-file-size", fmt.Sprint(file),
		"--catchup-rate", fmt.Sprint(rate), "--segment-bytes", fmt.Sprint(max(bytes/16, 1<<20)))
	t.Logf("%d bytes, log limit %d in files of %d, catch-up rate %d", bytes, limit, file, rate)
	c.createWith("big", "--replication-factor", fmt.Sprint(test.replicas))
	c.createWith("small", "--replication-factor", "3", "--partitions", "10")
	u := &catchUpRun{t: t, c: c}
	trickling, tail := u.choose(test)
	t.Logf("big is on %v led by %d, away %v, dead %v; small/%d trickles, small/%d loses its quorum", c.replicasOf("big", 0), c.leader("big", 0), u.away, u.dead, trickling, tail)

	size := watchSize(c, limit)
	trickle := startPaced(t, c.kafka, "small", trickling, 100, 100*time.Millisecond)
	lost := startPaced(t, c.kafka, "small", tail, 64<<10, time.Millisecond)
	waitFor(t, "records of the other partitions", 20*time.Second, func() bool { return trickle.acked() > 2 && lost.acked() > 20 })
	for _, id := range append(slices.Clone(u.away), u.dead...) {
		c.node(id).signal(syscall.SIGKILL)
	}
	for _, id := range append(slices.Clone(u.away), u.dead...) {
		<-c.node(id).done
	}
	// What was produced to a partition without a quorum stays uncommitted.
	b := startBulk(t, c.kafka, "big", 0)
	began := time.Now()
	b.write(bytes)
	t.Logf("wrote %d MiB in %v", bytes>>20, time.Since(began).Round(time.Millisecond))
	leader := c.leader("big", 0)
	if _, err := os.Stat(c.walDir(leader) + "/0000000000000001.wal"); err == nil {
		t.Fatal("the leader's log still has its first file: nothing is to be caught up with by segments")
	}
	b.pace(rate / 16) // goes on beside the catch-up

	if len(u.dead) == 0 {
		lost.abandon() // its partition gets its quorum back, and would catch up as well
	}
	began = time.Now()
	for _, id := range u.away {
		c.node(id).start()
	}
	first := u.away[0]
	var done, total float64
	waitFor(t, "staging to be under way", 60*time.Second, func() bool {
		done, total = c.metric(first, "raftsman_catchup_staged_bytes"), c.metric(first, "raftsman_catchup_staged_total_bytes")
		return total > float64(bytes)/2 && done > total/5
	})
	if done > total*0.95 {
		t.Logf("staging was nearly done when it was noticed: %.0f of %.0f bytes", done, total)
	}
	sent := b.sentBytes()
	t.Logf("%.0f of %.0f bytes staged at node %d after %v", done, total, first, time.Since(began).Round(time.Millisecond))
	test.harm(u)
	for _, id := range u.away {
		c.waitReady(id)
		waitFor(t, fmt.Sprintf("node %d to have caught up", id), 5*time.Minute, func() bool {
			size, _, staged := c.segmentsOf("big", id, io.Discard)
			return size >= bytes && !staged
		})
	}
	t.Logf("caught up %v after its start", time.Since(began).Round(time.Millisecond))
	for _, id := range u.away {
		got := c.metric(id, "raftsman_catchup_received_bytes_total")
		t.Logf("node %d fetched %.0f MiB since its last start, of %.0f", id, got/(1<<20), total/(1<<20))
		if grown := float64(b.sentBytes() - sent); got > total*1.3+grown {
			t.Errorf("node %d fetched %.0f bytes of %.0f: what was staged was not used", id, got, total)
		}
	}
	b.finish(t)
	trickle.finish(t)
	if len(u.dead) > 0 {
		lost.abandon()
	}
	c.compareSegments("big", b.sentBytes())
	u.lead(first)
	b.verify(t, c.kafka)
	size.report(t)
}

// choose picks who falls behind, who dies, and two partitions of the topic small
// with what their names say.
func (u *catchUpRun) choose(test catchUp) (trickling, tail int) {
	u.t.Helper()
	big, leader := u.c.replicasOf("big", 0), u.c.leader("big", 0)
	for id := 1; id <= 5; id++ {
		if !slices.Contains(big, id) {
			u.dead = append(u.dead, id)
		}
	}
	trickling, tail = -1, -1
	for i := range 10 {
		r := u.c.replicasOf("small", i)
		others := r[1:]
		isDead := func(id int) bool { return slices.Contains(u.dead, id) }
		switch {
		case tail >= 0 || r[0] != u.c.leader("small", i):
		case len(u.dead) == 2 && !isDead(r[0]) && isDead(others[0]) && isDead(others[1]):
			tail = i
		case len(u.dead) == 0 && !slices.Contains(others, leader):
			tail = i
			u.away = slices.Clone(others)
		}
	}
	for _, id := range big {
		if len(u.away) < test.away && id != leader {
			u.away = append(u.away, id)
		}
	}
	for i := range 10 {
		gone := 0
		for _, id := range u.c.replicasOf("small", i) {
			if slices.Contains(u.dead, id) || slices.Contains(u.away, id) {
				gone++
			}
		}
		if gone < 2 {
			trickling = i
		}
	}
	if trickling < 0 || tail < 0 {
		u.t.Fatalf("no partition of small fits: trickling %d, tail %d", trickling, tail)
	}
	return trickling, tail
}

// lead kills leaders until a node leads the partition. As many as the partition
// can do without stay away, else the same two might go on taking turns.
func (u *catchUpRun) lead(id int) {
	u.t.Helper()
	var down []int
	spare := (len(u.c.replicasOf("big", 0)) - 1) / 2
	for range 10 {
		var leader int
		waitFor(u.t, "a leader", 30*time.Second, func() bool {
			leader = u.c.leader("big", 0)
			return leader > 0 && !slices.Contains(down, leader)
		})
		if leader == id {
			return
		}
		if len(down) == spare {
			back := down[0]
			down = down[1:]
			u.c.node(back).start()
			u.c.waitReady(back)
			waitFor(u.t, "the former leader to be in sync", time.Minute, func() bool { return u.c.inSync("big", 0, back) })
		}
		u.c.node(leader).kill()
		down = append(down, leader)
	}
	u.t.Errorf("node %d never led, though ten leaders were killed", id)
}
