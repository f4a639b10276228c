//go:build system

package system

import (
	"context"
	"encoding/json"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// change writes to a file what edit makes of it.
func change(t *testing.T, name string, edit func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, edit(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flipped(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] ^= 0x20
		return b
	}
}

// filesOf lists a kind of files of a data directory, oldest first.
func filesOf(t *testing.T, pattern ...string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(pattern...))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %v: %v", pattern, err)
	}
	slices.Sort(names)
	return names
}

// damage is a case of TestDamagedFiles: do changes files below dir, and the node
// must then say all of says: at its end, or, if it runs on without the replica,
// while it runs.
type damage struct {
	name string
	runs bool
	do   func(t *testing.T, dir, otherDir string) (says []string)
}

var damages = []damage{
	{"bit in the middle of the log", false, func(t *testing.T, dir, _ string) []string {
		name := filesOf(t, dir, "wal", "*.wal")[0]
		at := firstFrame(t, name) + 70
		change(t, name, flipped(at))
		return []string{name, "damaged at byte", "raftsman debug", "empty data directory"}
	}},
	{"header of a log file", false, func(t *testing.T, dir, _ string) []string {
		name := filesOf(t, dir, "wal", "*.wal")[0]
		change(t, name, flipped(50))
		return []string{name, "damaged at byte 0", "raftsman debug"}
	}},
	{"log file cut short", false, func(t *testing.T, dir, _ string) []string {
		name := filesOf(t, dir, "wal", "*.wal")[0]
		change(t, name, func(b []byte) []byte { return b[:len(b)/2] })
		return []string{name, "damaged at byte", "raftsman debug"}
	}},
	{"oldest log file missing", false, func(t *testing.T, dir, _ string) []string {
		name := filesOf(t, dir, "wal", "*.wal")[0]
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		return []string{name, "the file is missing", "bounds says", "raftsman debug", "empty data directory"}
	}},
	{"newest log files missing", false, func(t *testing.T, dir, _ string) []string {
		names := filesOf(t, dir, "wal", "*.wal")
		name := names[len(names)-1] // prepared; the one before it was written to
		for _, n := range names[max(len(names)-2, 1):] {
			if err := os.Remove(n); err != nil {
				t.Fatal(err)
			}
		}
		return []string{name, "the file is missing", "bounds says", "raftsman debug"}
	}},
	{"bounds of the log missing", false, func(t *testing.T, dir, _ string) []string {
		name := filepath.Join(dir, "wal", "bounds")
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		return []string{name, "the file is missing"}
	}},
	{"log directory missing", false, func(t *testing.T, dir, _ string) []string {
		if err := os.RemoveAll(filepath.Join(dir, "wal")); err != nil {
			t.Fatal(err)
		}
		return []string{dir, "has lost its wal", "empty directory"}
	}},
	{"log of another node", false, func(t *testing.T, dir, other string) []string {
		if err := os.RemoveAll(filepath.Join(dir, "wal")); err != nil {
			t.Fatal(err)
		}
		command(t, "", "cp", "-a", filepath.Join(other, "wal"), dir)
		return []string{filepath.Join(dir, "wal"), "belongs to", "node 3", "--data-dir"}
	}},
	{"log of a newer format", false, func(t *testing.T, dir, _ string) []string {
		name := filesOf(t, dir, "wal", "*.wal")[0]
		change(t, name, func(b []byte) []byte {
			b[12] = 9
			n := 36 + int(uint32(b[32])|uint32(b[33])<<8)
			crc := crc32.Checksum(b[12:n], crc32.MakeTable(crc32.Castagnoli))
			b[8], b[9], b[10], b[11] = byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24)
			return b
		})
		return []string{name, "format version 9 is not supported"}
	}},
	{"identity missing", false, func(t *testing.T, dir, _ string) []string {
		if err := os.Remove(filepath.Join(dir, "identity.json")); err != nil {
			t.Fatal(err)
		}
		return []string{dir, "no identity.json"}
	}},
	{"bit in a manifest", false, func(t *testing.T, dir, _ string) []string {
		name := filesOf(t, dir, "manifests", "*.manifests")[0]
		change(t, name, flipped(300))
		return []string{name, "damaged at byte", "raftsman debug"}
	}},
	{"manifest log missing", true, func(t *testing.T, dir, _ string) []string {
		if err := os.Remove(filesOf(t, dir, "manifests", "*.manifests")[0]); err != nil {
			t.Fatal(err)
		}
		return []string{"replica can't be opened", "the log of manifests is damaged"}
	}},
	{"segment missing", true, func(t *testing.T, dir, _ string) []string {
		name := filesOf(t, dir, "partitions", "*", "log", "*.log")[0]
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		return []string{"replica can't be opened", name, "the file is missing"}
	}},
	{"sealed segment cut short", true, func(t *testing.T, dir, _ string) []string {
		name := filesOf(t, dir, "partitions", "*", "log", "*.log")[0]
		change(t, name, func(b []byte) []byte { return b[:len(b)-9] })
		return []string{"replica can't be opened", name, "damaged at byte"}
	}},
}

// firstFrame finds where the first frame of a log file is.
func firstFrame(t *testing.T, name string) int {
	t.Helper()
	out := command(t, "", binary(t, "raftsman"), "debug", "wal", "-o", "json", name)
	var frame struct {
		Kind   string
		Offset int
	}
	line, _, _ := strings.Cut(string(out), "\n")
	if err := json.Unmarshal([]byte(line), &frame); err != nil || frame.Kind != "frame" {
		t.Fatalf("%s: no frame first but %q (%v)", name, line, err)
	}
	return frame.Offset
}

// loaded stops a cluster whose logs, manifests and segments have rolled.
func loaded(t *testing.T) (*cluster, *spread) {
	t.Helper()
	seed, _ := seeded(t)
	c := startCluster(t, 3, 5*time.Second, "--wal-file-size", "4194304", "--wal-size-limit", "33554432", "--segment-bytes", "262144")
	c.create("numbers", 2)
	load := startSpread(t, c.kafka, seed)
	load.add("numbers", 2, false, false)
	waitFor(t, "enough records", time.Minute, func() bool {
		return load.acknowledged() > 9000 && c.fewestSegments() >= 3
	})
	load.finish(t)
	for _, p := range c.nodes {
		p.signal(syscall.SIGTERM)
	}
	for _, p := range c.nodes {
		<-p.done
	}
	return c, load
}

// fewestSegments is how many segments the replica has that has the fewest: all but
// the last are full.
func (c *cluster) fewestSegments() int {
	fewest := 1 << 30
	for id := range c.nodes {
		logs, err := filepath.Glob(filepath.Join(c.dataDir(id+1), "partitions", "*", "log"))
		if err != nil || len(logs) == 0 {
			return 0
		}
		for _, dir := range logs {
			names, err := filepath.Glob(filepath.Join(dir, "*.log"))
			if err != nil {
				return 0
			}
			fewest = min(fewest, len(names))
		}
	}
	return fewest
}

// TestDamagedFiles: a node with a damaged file does not start, or runs without
// the replica concerned, and says which file, where, and what to do.
func TestDamagedFiles(t *testing.T) {
	c, load := loaded(t)
	dir, whole := c.dataDir(2), c.dataDir(2)+".whole"
	command(t, "", "cp", "-a", dir, whole)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			command(t, "", "cp", "-a", whole, dir)
			says := d.do(t, dir, c.dataDir(3))
			n := c.node(2)
			before := len(n.logs())
			n.start()
			defer n.cleanUp()
			said := func() string { return n.logs()[before:] }
			if d.runs {
				waitFor(t, "the node to say it", 30*time.Second, func() bool { return missing(said(), says) == "" })
				return
			}
			select {
			case <-n.done:
			case <-time.After(30 * time.Second):
				t.Fatalf("the node runs on; it said\n%s", said())
			}
			last := lastLine(said())
			if code := n.cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if m := missing(last, says); m != "" {
				t.Errorf("it said %q at last, which has no %q", last, m)
			}
			t.Log(last)
		})
	}
	// Nothing of this has harmed what the others have.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	command(t, "", "cp", "-a", whole, dir)
	for id := 1; id <= 3; id++ {
		c.node(id).start()
	}
	for id := 1; id <= 3; id++ {
		c.waitReady(id)
	}
	load.verify(t, c.kafka)
}

// missing returns the first of texts that is not in s.
func missing(s string, texts []string) string {
	for _, text := range texts {
		if !strings.Contains(s, text) {
			return text
		}
	}
	return ""
}

// TestDamagedSegmentRead flips a bit of a record in a sealed segment of every
// replica: consumers get an error there, never other bytes, and the leader says
// once where it is.
func TestDamagedSegmentRead(t *testing.T) {
	c, _ := loaded(t)
	at := 100_000
	for id := 1; id <= 3; id++ {
		for _, replica := range filesOf(t, c.dataDir(id), "partitions", "*", "replica.json") {
			b, err := os.ReadFile(replica)
			if err == nil && strings.Contains(string(b), `"partition":0`) {
				change(t, filesOf(t, filepath.Dir(replica), "log", "*.log")[1], flipped(at))
			}
		}
		c.node(id).start()
	}
	for id := 1; id <= 3; id++ {
		c.waitReady(id)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka...), kgo.KeepRetryableFetchErrors(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"numbers": {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	next, refused := 0, 0
	for refused < 3 && ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachError(func(_ string, _ int32, err error) {
			if errors.Is(err, kerr.KafkaStorageError) {
				refused++
			}
		})
		fetches.EachRecord(func(r *kgo.Record) {
			digits, padding, _ := strings.Cut(string(r.Value), " ")
			if n, err := strconv.Atoi(digits); err != nil || n != next || strings.Trim(padding, string(rune('a'+n%26))) != "" {
				t.Errorf("offset %d holds %.40q, want number %d", r.Offset, r.Value, next)
			}
			next++
		})
	}
	if refused == 0 || next == 0 {
		t.Fatalf("read %d records, refused %d times; want some of both", next, refused)
	}
	leader := c.node(c.leader("numbers", 0))
	var told []string
	for line := range strings.Lines(leader.logs()) {
		if strings.Contains(line, "a segment is damaged") {
			told = append(told, line)
		}
	}
	if len(told) != 1 || missing(told[0], []string{"partitions/", ".log", "byte="}) != "" {
		t.Errorf("the leader told %q; want one line with file and byte", told)
	}
	t.Logf("%d records read, then KAFKA_STORAGE_ERROR; %v", next, told)
}
