package testcluster

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// verdict is what a verification of the cluster said.
type verdict struct {
	differences []node.Difference
	incomplete  []node.Incomplete
	done        node.VerifyProgress
}

// verify has a node verify the cluster.
func (c *Cluster) verify(at int32, opts node.VerifyOptions) (v verdict, err error) {
	return verifyAt(c.nodes[at].Node.HTTPAddr(), opts)
}

func verifyAt(addr string, opts node.VerifyOptions) (v verdict, err error) {
	body, err := json.Marshal(opts)
	if err != nil {
		return v, err
	}
	resp, err := http.Post("http://"+addr+"/cluster/verify", "application/json", bytes.NewReader(body))
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var e node.VerifyEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return v, fmt.Errorf("%s: %q: %w", resp.Status, lines.Text(), err)
		}
		switch {
		case e.Error != "":
			return v, fmt.Errorf("verify: %s", e.Error)
		case e.Difference != nil:
			v.differences = append(v.differences, *e.Difference)
		case e.Incomplete != nil:
			v.incomplete = append(v.incomplete, *e.Incomplete)
		case e.Done != nil:
			v.done = *e.Done
			return v, nil
		}
	}
	return v, fmt.Errorf("%s: no end (%v)", resp.Status, lines.Err())
}

func (c *Cluster) mustVerify(at int32, opts node.VerifyOptions) verdict {
	c.t.Helper()
	v, err := c.verify(at, opts)
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

// mustBeClean waits for a verification without differences or gaps.
func (c *Cluster) mustBeClean(at int32) verdict {
	c.t.Helper()
	v := c.mustVerify(at, node.VerifyOptions{})
	if len(v.differences) > 0 || len(v.incomplete) > 0 || v.done.Batches == 0 {
		c.t.Fatalf("want a clean verification of some batches, got %+v", v)
	}
	return v
}

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64() >> 16
	if s := os.Getenv("RAFTSMAN_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("RAFTSMAN_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 7))
}

// logFiles are the segment files of a node's only replica, oldest first.
func (c *Cluster) logFiles(id int32) []string {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, fmt.Sprint(id), "partitions", "*", "log", "*.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

func flipBit(t *testing.T, name string, at int64, bit int) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func fileBytes(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// verifiable is a cluster with one partition of several segments, all in files.
func verifiable(t *testing.T, records int) (*Cluster, *kgo.Client) {
	t.Helper()
	c := Start(t, 3, func(cfg *node.Config) {
		cfg.WAL = node.WAL{FileSize: 1 << 20, SizeLimit: 8 << 20} // so that there are manifests
		cfg.MessageMaxBytes = 1 << 20
	})
	client := c.Client(kgo.ProducerBatchMaxBytes(150 << 10))
	size, keep := "1048576", "8388608"
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 3, map[string]*string{"segment.bytes": &size, "retention.bytes": &keep}, "v"); err != nil {
		t.Fatal(err)
	}
	fill(t, client, "v", 0, records)
	testetcd.Eventually(t, "all segments to be in files", func() bool {
		var total [4]int64
		for id := int32(1); id <= 3; id++ {
			for _, name := range c.logFiles(id) {
				if info, err := os.Stat(name); err == nil {
					total[id] += info.Size()
				}
			}
		}
		return total[1] > int64(records)*(64<<10) && total[1] == total[2] && total[2] == total[3]
	})
	return c, client
}

// damagedCopies are those of a difference.
func damagedCopies(d node.Difference) (all []node.Copy) {
	for _, copy := range d.Copies {
		if copy.State == node.CopyDamaged {
			all = append(all, copy)
		}
	}
	return all
}

// TestVerifyFindsFlips flips one bit of one replica at a time. Any node finds it
// and tells where it is; without --repair nothing changes, with it the file is
// that of the others again.
func TestVerifyFindsFlips(t *testing.T) {
	r := seeded(t)
	c, _ := verifiable(t, 40)
	c.mustBeClean(1)
	for i := range 12 {
		id := 1 + r.Int32N(3)
		files := c.logFiles(id)
		name := files[r.IntN(len(files))]
		before := fileBytes(t, name)
		pos := r.Int64N(int64(len(before)))
		if r.IntN(2) == 0 {
			pos = r.Int64N(61) // a header, that of the first batch
		}
		bit := r.IntN(8)
		if i == 0 { // a lower epoch of the first batch: only the segment's checksum proves it
			for pos, bit = 15, 0; before[pos]>>bit&1 == 0; {
				bit++
			}
		}
		flipBit(t, name, pos, bit)
		damaged := fileBytes(t, name)
		what := fmt.Sprintf("byte %d of %s", pos, name)
		v := c.mustVerify(1+r.Int32N(3), node.VerifyOptions{})
		if len(v.differences) != 1 || len(v.incomplete) != 0 {
			t.Fatalf("%s: found %+v", what, v)
		}
		d := v.differences[0]
		bad := damagedCopies(d)
		if d.Kind != node.KindDamage || d.Repaired || len(d.Copies) != 3 || len(bad) != 1 || bad[0].Node != id || bad[0].File != name || bad[0].Reason == "" ||
			bad[0].Pos > pos || pos >= bad[0].Pos+160<<10 {
			t.Fatalf("%s: found %+v", what, d)
		}
		if fileBytes(t, name) != damaged {
			t.Fatalf("%s: the file was changed by a verification without repair", what)
		}
		v = c.mustVerify(1+r.Int32N(3), node.VerifyOptions{Repair: true})
		if len(v.differences) != 1 || !v.differences[0].Repaired {
			t.Fatalf("%s: repair says %+v", what, v)
		}
		if fileBytes(t, name) != before {
			t.Fatalf("%s: the file is not what it was", what)
		}
		c.mustBeClean(id)
	}
}

// TestNoWholeCopy: what is damaged in all replicas is reported, and stays; none of
// them counts as in sync. As soon as one of them is whole again the others are
// mended.
func TestNoWholeCopy(t *testing.T) {
	r := seeded(t)
	c, client := verifiable(t, 30)
	adm := kadm.NewClient(client)
	inSync := func(n int) func() bool {
		return func() bool {
			topics, err := adm.ListTopics(t.Context(), "v")
			return err == nil && len(topics["v"].Partitions[0].ISR) == n
		}
	}
	testetcd.Eventually(t, "all replicas to be in sync", inSync(3))
	var files, damaged [4]string
	before := ""
	for id := int32(1); id <= 3; id++ {
		files[id] = c.logFiles(id)[0]
		before = fileBytes(t, files[id])
		flipBit(t, files[id], 1000+r.Int64N(1000), r.IntN(8))
		damaged[id] = fileBytes(t, files[id])
	}
	v := c.mustVerify(2, node.VerifyOptions{Repair: true})
	if len(v.differences) != 1 || v.differences[0].Repaired || len(damagedCopies(v.differences[0])) != 3 {
		t.Fatalf("found %+v", v)
	}
	for id := 1; id <= 3; id++ {
		if fileBytes(t, files[id]) != damaged[id] {
			t.Errorf("node %d changed its file", id)
		}
		if at := v.differences[0].Copies[id-1]; !strings.HasPrefix(at.Repair, "not mended: ") {
			t.Errorf("node %d: repair says %q", id, at.Repair)
		}
	}
	testetcd.Eventually(t, "no replica but the leader to be shown as in sync", inSync(1))
	if err := os.WriteFile(files[2], []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "all replicas to be in sync again", inSync(3))
	for id := int32(1); id <= 3; id++ {
		if fileBytes(t, files[id]) != before {
			t.Errorf("the file of node %d is not what it was", id)
		}
	}
	c.mustBeClean(1)
}

// TestDamagedAndLetGo: a node comes back with a damaged segment that the others
// have removed meanwhile. It needs it no more, and follows them.
func TestDamagedAndLetGo(t *testing.T) {
	r := seeded(t)
	c, client := verifiable(t, 120)
	id := 1 + r.Int32N(3)
	c.Stop(id)
	gone := c.logFiles(id)[0]
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	other := c.logFiles(id%3 + 1)[0]
	testetcd.Eventually(t, "the others to remove the segment", func() bool {
		fill(t, client, "v", 120, 10) // files go when a newer manifest does not name them
		_, err := os.Stat(other)
		return err != nil
	})
	c.Restart(id)
	testetcd.Eventually(t, "the replica to follow", func() bool {
		v, err := c.verify(id, node.VerifyOptions{})
		return err == nil && len(v.differences) == 0 && len(v.incomplete) == 0 && v.done.Batches > 0
	})
}

// TestDamagedAtOpen: a replica whose segments can't be opened is mended by its
// own node, and has the same bytes as the others then.
func TestDamagedAtOpen(t *testing.T) {
	r := seeded(t)
	c, client := verifiable(t, 120)
	id := 1 + r.Int32N(3)
	c.Stop(id)
	files := c.logFiles(id)
	whole := make(map[string]string)
	for _, name := range files {
		whole[name] = fileBytes(t, name)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	short := 1 + r.Int64N(1000)
	if err := os.Truncate(files[1], short); err != nil {
		t.Fatal(err)
	}
	c.Restart(id)
	fill(t, client, "v", 30, 1) // goes on meanwhile
	testetcd.Eventually(t, "the replica to be mended", func() bool {
		v, err := c.verify(id, node.VerifyOptions{})
		return err == nil && len(v.differences) == 0 && len(v.incomplete) == 0
	})
	for _, name := range files[:len(files)-1] {
		if fileBytes(t, name) != whole[name] {
			t.Errorf("%s is not what it was", name)
		}
	}
	aside := filepath.Join(filepath.Dir(filepath.Dir(files[1])), "damaged", filepath.Base(files[1]))
	if fileBytes(t, aside) != whole[files[1]][:short] {
		t.Errorf("what was damaged is not in %s", aside)
	}
}

// TestDamagedAtRead: a leader that finds damage when a consumer reads mends it,
// and the consumer goes on.
func TestDamagedAtRead(t *testing.T) {
	r := seeded(t)
	c, client := verifiable(t, 40)
	leader := leaderOf(c, client, "v")
	name := c.logFiles(leader)[1]
	before := fileBytes(t, name)
	flipBit(t, name, r.Int64N(int64(len(before))), r.IntN(8))
	consumer := c.Client(kgo.KeepRetryableFetchErrors(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"v": {0: kgo.NewOffset().AtStart()}}))
	for next := 0; next < 40; {
		consumer.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
			if string(r.Key) != fmt.Sprint(next) {
				t.Fatalf("offset %d holds record %s, want %d", r.Offset, r.Key, next)
			}
			next++
		})
	}
	if v := c.mustVerify(leader, node.VerifyOptions{Repair: true}); len(v.incomplete) > 0 {
		t.Fatal(v)
	}
	if fileBytes(t, name) != before {
		t.Error("the file is not what it was")
	}
	c.mustBeClean(leader)
}
