package node

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/vfs"
)

// TestFreedCrashes loses power at every write and sync of a replica's removal.
// Whenever the node comes up again and an assignment names the replica, it opens
// it with all that it had, or never again, and says so.
func TestFreedCrashes(t *testing.T) {
	seed := rand.Uint64() >> 16
	if s, err := strconv.ParseUint(os.Getenv("RAFTSMAN_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("RAFTSMAN_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	crashes, whole := 0, 0
	for n, calm := int64(1), 0; calm < 2; n++ {
		crashed, opened := freedCrash(t, n, rnd)
		if !crashed {
			calm++
			n = 0 // again, with another part of what was not synced
			continue
		}
		crashes++
		if opened {
			whole++
		}
	}
	t.Logf("%d crashes, %d before the removal had begun", crashes, whole)
	if crashes < 8 || whole == 0 || whole == crashes {
		t.Errorf("%d crashes, %d before the removal had begun: it writes nothing?", crashes, whole)
	}
}

// freedCrash loses power at the n-th operation of a removal; crashed says whether
// there were that many, open whether the replica was opened again.
func freedCrash(t *testing.T, n int64, rnd *rand.Rand) (crashed, open bool) {
	t.Helper()
	mem := vfs.NewMem()
	if err := errors.Join(mem.MkdirAll("/data/partitions"), mem.SyncDir("/data"), mem.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	l, err := openLone(mem)
	if err != nil {
		t.Fatal(err)
	}
	l.r.reconcile(t.Context(), viewOf(before))
	appendBatches(t, l.lead(t), loneBatches)
	if err := l.r.closeOne(71); err != nil {
		t.Fatal(err)
	}
	mem.ArmCrash(n)
	err = l.r.writeFreed(lonePartition, "t", 71)
	if err == nil {
		err = l.r.finishFreed(lonePartition, 71)
	}
	if crashed = mem.Crashed(); !crashed {
		if err != nil {
			t.Fatalf("nothing crashed: %v", err)
		}
		mem.ArmCrash(1) // what Close would still write is lost too
	}
	_ = l.close() // its disk is gone
	mem.Crash(rnd)

	what := fmt.Sprintf("crash at operation %d", n)
	if l, err = openLone(mem); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer func() {
		if err := l.close(); err != nil {
			t.Errorf("%s: close: %v", what, err)
		}
	}()
	for range 2 {
		l.r.reconcile(t.Context(), viewOf(before))
	}
	refused := l.r.refused(viewOf(before), map[string]string{"T": "t"})
	if _, open = l.r.get(lonePartition); open {
		if o, _ := l.lead(t).Offsets(); o.HighWatermark != loneBatches || len(refused) > 0 {
			t.Fatalf("%s: opened again with %d records of %d, refused %v", what, o.HighWatermark, loneBatches, refused)
		}
		return crashed, true
	}
	names, err := mem.List("/data/partitions")
	if err != nil || strings.Join(names, " ") != "71.freed" || !slices.Equal(refused, []uint64{71}) {
		t.Fatalf("%s: partitions %v, %v, refused %v", what, names, err, refused)
	}
	return crashed, false
}

// TestFreedIds: which replicas are not opened, with what a node remembers over a
// restart, and what it forgets.
func TestFreedIds(t *testing.T) {
	fsys := vfs.NewMem()
	r := diskReplicas(t, fsys)
	x, y := partitionID{"x", 0}, partitionID{"y", 0}
	if err := r.writeReplicaFile(replicaFile{Topic: "t", TopicID: "x", Replica: 5}); err != nil {
		t.Fatal(err)
	}
	for replica, id := range map[uint64]partitionID{4: x, 7: x, 9: x, 20: y} {
		if err := errors.Join(r.writeFreed(id, "t", replica), r.pruneFreed(id)); err != nil {
			t.Fatal(err)
		}
	}
	r = diskReplicas(t, fsys)
	for _, c := range []struct {
		id      partitionID
		replica uint64
		freed   bool
	}{
		{x, 9, true}, {x, 7, true}, {x, 4, true}, {x, 3, true},
		{x, 5, false}, // it is here still
		{x, 10, false}, {x, 20, false},
		{y, 20, true}, {y, 9, true}, {y, 21, false},
		{partitionID{"x", 1}, 9, false}, {partitionID{"z", 0}, 1, false},
	} {
		a := cluster.Assignment{TopicID: c.id.topicID, Replicas: []cluster.Replica{{Node: 2, ID: 1, Incarnation: "i2"}, {Node: 1, ID: c.replica, Incarnation: "i1"}}}
		replica, mine, freed := r.mine(c.id, a)
		if replica != c.replica || mine == freed || freed != c.freed {
			t.Errorf("%v, replica %d: it is %d, mine %t, freed %t", c.id, c.replica, replica, mine, freed)
		}
	}
	if err := r.forgetFreed(&cluster.View{Deleted: map[string]cluster.Tombstone{"x": {}}}); err != nil {
		t.Fatal(err)
	}
	names, err := fsys.List("/data/partitions")
	if err != nil || strings.Join(names, " ") != "20.freed 5" {
		t.Errorf("partitions %v, %v", names, err)
	}
}
