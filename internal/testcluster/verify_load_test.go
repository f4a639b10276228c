package testcluster

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/manifest"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/node"
)

// TestVerifyUnderLoad verifies again and again, from all nodes at once, while
// records are written, retention moves the log start, leaders are stopped (so
// that conflicts are truncated) and nodes catch up by segments: nothing ever
// differs.
func TestVerifyUnderLoad(t *testing.T) {
	r := seeded(t)
	c := Start(t, 3, func(cfg *node.Config) {
		cfg.WAL = node.WAL{FileSize: 1 << 20, SizeLimit: 8 << 20}
		cfg.MessageMaxBytes = 1 << 20
	})
	size, retention := "524288", "4000000"
	adm := kadm.NewClient(c.Client())
	if _, err := adm.CreateTopic(t.Context(), 2, 3, map[string]*string{"segment.bytes": &size, "retention.bytes": &retention}, "busy"); err != nil {
		t.Fatal(err)
	}
	all := c.writers("busy", 2, 6000, 3*time.Millisecond)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var runs, batches, gaps int64
	for id := int32(1); id <= 3; id++ {
		addr := c.nodes[id].Node.HTTPAddr()
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				v, err := verifyAt(addr, node.VerifyOptions{})
				mu.Lock()
				if err == nil {
					runs++
				}
				batches, gaps = batches+v.done.Batches, gaps+int64(len(v.incomplete))
				for _, d := range v.differences {
					t.Errorf("false difference: %+v", d)
				}
				mu.Unlock()
				if err != nil { // the node is down
					pass(t, 50*time.Millisecond)
				}
			}
		})
	}
	for range 4 {
		pass(t, time.Duration(500+r.IntN(1000))*time.Millisecond)
		id := 1 + r.Int32N(3)
		c.Stop(id)
		pass(t, time.Duration(500+r.IntN(3000))*time.Millisecond)
		c.Restart(id)
	}
	pass(t, 2*time.Second)
	close(stop)
	wg.Wait()
	t.Logf("%d verifications of %d batches, %d gaps", runs, batches, gaps)
	if runs < 3 || batches == 0 {
		t.Errorf("too little was verified")
	}
	for _, w := range all {
		w.halt()
	}
	starts, err := adm.ListStartOffsets(t.Context(), "busy")
	if o, ok := starts.Lookup("busy", 0); err != nil || !ok || o.Offset == 0 {
		t.Errorf("retention has removed nothing: %+v, %v", o, err)
	}
	testetcd.Eventually(t, "a verification without gaps", func() bool {
		v, err := c.verify(1, node.VerifyOptions{})
		if len(v.differences) > 0 {
			t.Fatalf("differences: %+v", v.differences)
		}
		return err == nil && len(v.incomplete) == 0 && v.done.Batches > 0
	})
}

// TestDivergence makes one replica of a sealed segment say something else, with
// all checksums right: it is reported, and --repair changes nothing.
func TestDivergence(t *testing.T) {
	r := seeded(t)
	c, _ := verifiable(t, 120)
	id := 1 + r.Int32N(3)
	c.Stop(id)
	name := c.logFiles(id)[1]
	offset, pos := c.forge(id, name, r)
	forged := fileBytes(t, name)
	c.Restart(id)
	var v verdict
	testetcd.Eventually(t, "a complete verification", func() bool {
		var err error
		v, err = c.verify(id, node.VerifyOptions{Repair: true})
		return err == nil && len(v.incomplete) == 0
	})
	if len(v.differences) != 1 {
		t.Fatalf("found %+v", v.differences)
	}
	d := v.differences[0]
	if d.Kind != node.KindDivergence || d.Repaired || d.Offset != offset || len(d.Copies) != 3 {
		t.Fatalf("found %+v, want a divergence at offset %d", d, offset)
	}
	same := make(map[uint32]int)
	for _, at := range d.Copies {
		same[at.CRC]++
		if at.State != node.CopyIntact || at.Pos != pos || at.Repair != "" {
			t.Errorf("found %+v, want an intact copy at byte %d", at, pos)
		}
	}
	if len(same) != 2 {
		t.Errorf("checksums of the copies: %v, want two different ones", same)
	}
	if fileBytes(t, name) != forged {
		t.Error("the file was changed")
	}
}

// forge changes a record in a segment of a stopped node, and each checksum that
// covers it.
func (c *Cluster) forge(id int32, name string, r *rand.Rand) (offset, pos int64) {
	c.t.Helper()
	b := []byte(fileBytes(c.t.(*testing.T), name))
	var places []int64
	for p := int64(0); p < int64(len(b)); p += seglog.Batch(b[p:]).Size() {
		places = append(places, p)
	}
	pos = places[r.IntN(len(places))]
	batch := seglog.Batch(b[pos:][:seglog.Batch(b[pos:]).Size()])
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	batch[seglog.BatchHeaderLen+100] ^= 1
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], castagnoli))
	if err := os.WriteFile(name, b, 0o600); err != nil {
		c.t.Fatal(err)
	}
	base, _ := seglog.SegmentBase(name)
	err := c.editManifest(id, func(m *partition.Manifest) error {
		for i := range m.Log.Segments {
			if s := &m.Log.Segments[i]; s.Base == base && s.Bytes == int64(len(b)) {
				s.CRC = crc32.Checksum(b, castagnoli)
				return nil
			}
		}
		return fmt.Errorf("the manifest does not name segment %d", base)
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return batch.BaseOffset(), pos
}

// editManifest changes the newest manifest of a stopped node's only replica.
func (c *Cluster) editManifest(id int32, edit func(*partition.Manifest) error) (err error) {
	dir := filepath.Join(c.dir, fmt.Sprint(id))
	who, _, err := identity.Load(vfs.OS, dir)
	if err != nil {
		return err
	}
	store, err := manifest.Open(manifest.Options{FS: vfs.OS, Dir: filepath.Join(dir, "manifests"), Identity: who})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var replica uint64
	if _, err := fmt.Sscan(filepath.Base(c.replicaDirs(id)[0]), &replica); err != nil {
		return err
	}
	snapshots := store.Group(replica)
	list, err := snapshots.List()
	if err != nil || len(list) != 1 {
		return fmt.Errorf("%d manifests: %w", len(list), err)
	}
	meta, body, err := snapshots.Open(list[0].ID)
	if err != nil {
		return err
	}
	old, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	m, err := partition.DecodeManifest(old)
	if err == nil {
		err = edit(&m)
	}
	if err != nil {
		return err
	}
	sink, err := snapshots.Create(meta.Version, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, nil)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(sink).Encode(&m); err != nil {
		return err
	}
	return sink.Close()
}
