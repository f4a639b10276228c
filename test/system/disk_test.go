//go:build system

package system

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const mebi = 1 << 20

// fill leaves so many bytes free on a disk, by a foreign file; 0 fills it up.
func (d *disk) fill(leave int64) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.dir, "foreign"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, mebi)
	for size := len(block); d.free() > leave && size > 0; {
		n := min(int64(size), d.free()-leave)
		_, err := f.Write(block[:n])
		if errors.Is(err, unix.ENOSPC) {
			size /= 2 // metadata takes some
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

// unfill removes the foreign file.
func (d *disk) unfill() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "foreign")); err != nil {
		d.t.Fatal(err)
	}
}

// page reads a page of a node's HTTP server.
func (c *cluster) page(id int, path string) string {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + c.http[id-1] + path)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 4*mebi))
	return string(b)
}

var smallDisk = []string{"--wal-file-size", "2097152", "--wal-size-limit", "16777216", "--segment-bytes", "1048576", "--min-free-disk", "67108864"}

// nearlyFull waits until a node says everywhere that its disk is nearly full.
func (c *cluster) nearlyFull(id int) {
	c.t.Helper()
	waitFor(c.t, "a node to say that its disk is nearly full", 20*time.Second, func() bool {
		return strings.Contains(c.page(id, "/readyz"), "nearly full") && strings.Contains(c.page(id, "/metrics"), "\nraftsman_disk_full 1")
	})
	if n := strings.Count(c.node(id).logs(), "the disk is nearly full"); n != 1 {
		c.t.Errorf("node %d logged %d times that its disk is nearly full", id, n)
	}
}

func (c *cluster) running() {
	c.t.Helper()
	for _, p := range c.nodes {
		select {
		case <-p.done:
			c.t.Fatalf("%s ended: %v", p.name, p.cmd.ProcessState)
		default:
		}
	}
}

// TestDisksFull fills all disks, at first below the threshold and then wholly:
// records are refused with a code that clients try again for, reads go on,
// elections too, and all goes on by itself when there is space.
func TestDisksFull(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	seed, _ := seeded(t)
	c, disks := onDisks(t, 400*mebi, plain, smallDisk...)
	c.create("wide", 4)
	load := startSpread(t, c.kafka, seed)
	load.add("wide", 4, false, false)
	waitFor(t, "acknowledgements", 30*time.Second, func() bool { return load.acknowledged() > 2000 })
	for _, d := range disks {
		d.fill(48 * mebi)
	}
	for id := 1; id <= 3; id++ {
		c.nearlyFull(id)
	}
	pass(t, time.Second) // answers on their way arrive
	before := load.acknowledged()
	leader := c.leader("wide", 0)
	direct := startDirect(t, c.kafka[leader-1], "wide", 0)
	pass(t, 3*time.Second)
	refused, acked := direct.finish()
	t.Logf("all disks below the threshold: %d acknowledged, refused with %v", acked, refused)
	if refused["KAFKA_STORAGE_ERROR"] == 0 || acked > 0 || load.acknowledged() != before {
		t.Errorf("refused with %v, %d acknowledged; want KAFKA_STORAGE_ERROR only", refused, acked)
	}
	c.running()

	for _, d := range disks {
		d.fill(0)
	}
	pass(t, 2*time.Second)
	c.running()
	c.node(leader).kill()
	waitFor(t, "another leader, elected on full disks", 20*time.Second, func() bool {
		now := c.leader("wide", 0)
		return now != 0 && now != leader
	})
	if n := c.count("wide"); n < before {
		t.Errorf("read %d records from full disks, %d were acknowledged", n, before)
	}
	c.node(leader).start()
	waitFor(t, "a node to come back on a full disk", 30*time.Second, func() bool { return strings.Contains(c.page(leader, "/readyz"), "nearly full") })
	c.running()

	at := time.Now()
	for _, d := range disks {
		d.unfill()
	}
	for id := 1; id <= 3; id++ {
		c.waitReady(id)
	}
	waitFor(t, "acknowledgements", 30*time.Second, func() bool { return load.acknowledged() > before+1000 })
	t.Logf("space again: ready and 1000 acknowledgements after %v", time.Since(at).Round(time.Millisecond))
	load.finish(t)
	load.verify(t, c.kafka)
}

// count reads a topic from the start until nothing comes any more.
func (c *cluster) count(topic string) int {
	c.t.Helper()
	out := command(c.t, "", "kcat", "-C", "-b", strings.Join(c.kafka, ","), "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%o\n")
	return strings.Count(string(out), "\n")
}

// TestOneDiskFull fills the disk of a leader's node: it hands its leaderships
// over, acknowledgements go on, and it catches up when there is space.
func TestOneDiskFull(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	c, disks := onDisks(t, 400*mebi, plain, smallDisk...)
	c.create("numbers", 1)
	c.create("more", 2)
	l := startLoad(t, c.kafka, "numbers")
	waitFor(t, "acknowledgements", 30*time.Second, func() bool { return l.ackedSince(time.Time{}) > 500 })
	full := c.leader("numbers", 0)
	at := time.Now()
	disks[full-1].fill(48 * mebi)
	waitFor(t, "the leadership to move", 30*time.Second, func() bool {
		now := c.leader("numbers", 0)
		return now != 0 && now != full
	})
	moved := time.Since(at)
	waitFor(t, "acknowledgements", 30*time.Second, func() bool { return l.ackedSince(at.Add(moved)) > 500 })
	t.Logf("node %d is full: leadership moved after %v, longest time without an acknowledgement %v", full, moved.Round(time.Millisecond), l.longestGap(at).Round(time.Millisecond))
	c.nearlyFull(full)

	// Now without any space: it can't follow for long, and must not matter.
	disks[full-1].fill(0)
	more := startSpread(t, c.kafka, 1)
	more.add("more", 2, false, false)
	waitFor(t, "acknowledgements of more than the full node can take", time.Minute, func() bool { return more.acknowledged() > 20000 })
	c.running()
	gap := l.longestGap(at.Add(moved))
	t.Logf("no byte free on node %d: %d records of 1.5 KiB more were acknowledged, longest time without an acknowledgement %v", full, more.acknowledged(), gap.Round(time.Millisecond))

	freed := time.Now()
	disks[full-1].unfill()
	c.waitReady(full)
	waitFor(t, "the node to be in sync", time.Minute, func() bool { return c.allInSync("numbers", 3) && c.allInSync("more", 3) })
	t.Logf("space again: ready and in sync after %v", time.Since(freed).Round(time.Millisecond))
	l.finish(t)
	more.finish(t)
	other := full%3 + 1 // reads must be served with the help of the node that was full
	c.node(other).kill()
	l.verify(t, c.kafka)
	more.verify(t, c.kafka)
}
