package node

import (
	"errors"
	"io/fs"
	"log/slog"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/vfs"
)

func diskReplicas(t *testing.T, fsys vfs.FS) *replicas {
	t.Helper()
	r := &replicas{fs: fsys, dir: "/data/partitions", open: make(map[uint64]*opened), onDisk: make(map[uint64]replicaFile),
		freed: make(map[partitionID]map[uint64]bool), self: 1, incarnation: "i1", now: time.Now, log: slog.New(slog.DiscardHandler)}
	if err := r.scan(); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRemovalIsFinished: what a crash left of a replica that was being removed goes
// at the next start; a replica's own directory stays.
func TestRemovalIsFinished(t *testing.T) {
	fsys := vfs.NewMem()
	r := diskReplicas(t, fsys)
	for _, replica := range []uint64{7, 8} {
		if err := r.writeReplicaFile(replicaFile{Topic: "t", TopicID: "x", Replica: replica}); err != nil {
			t.Fatal(err)
		}
	}
	if err := fsys.Rename(r.replicaDir(7), r.replicaDir(7)+removedSuffix); err != nil {
		t.Fatal(err)
	}
	r = diskReplicas(t, fsys)
	if len(r.onDisk) != 1 || r.onDisk[8].Topic != "t" {
		t.Fatalf("found %v, want replica 8", r.onDisk)
	}
	if _, err := fsys.Stat(r.replicaDir(7) + removedSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the removed replica is still there: %v", err)
	}
}

// TestClosedFormer: which replicas on disk are opened though no assignment names
// them.
func TestClosedFormer(t *testing.T) {
	r := &replicas{open: make(map[uint64]*opened), onDisk: map[uint64]replicaFile{7: {Topic: "t", TopicID: "x", Replica: 7}}}
	topics := map[string]cluster.Topic{"t": {ID: "x"}}
	for _, c := range []struct {
		name  string
		view  cluster.View
		named bool
		want  int
	}{
		{"no assignment names it", cluster.View{Source: cluster.SourceEtcd, Topics: topics}, false, 1},
		{"an assignment names it", cluster.View{Source: cluster.SourceEtcd, Topics: topics}, true, 0},
		{"nothing is known yet", cluster.View{Topics: topics}, false, 0},
		{"the topic is missing", cluster.View{Source: cluster.SourceEtcd}, false, 0},
		{"the topic is another one", cluster.View{Source: cluster.SourceEtcd, Topics: map[string]cluster.Topic{"t": {ID: "y"}}}, false, 0},
		{"the topic was deleted", cluster.View{Source: cluster.SourceEtcd, Topics: topics, Deleted: map[string]cluster.Tombstone{"x": {}}}, false, 0},
	} {
		if got := len(r.closedFormer(&c.view, map[uint64]bool{7: c.named})); got != c.want {
			t.Errorf("%s: %d are opened, want %d", c.name, got, c.want)
		}
	}
}
