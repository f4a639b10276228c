package testcluster

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/node"
)

// slowDisks are the nodes that say in etcd that their disk is slow, as another
// node shows it.
func (c *Cluster) slowDisks(t *testing.T, asked int32) map[int32]int64 {
	t.Helper()
	resp, err := http.Get("http://" + c.Member(asked).Node.HTTPAddr() + "/cluster.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var info struct{ Nodes []cluster.Node }
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		t.Fatal(err)
	}
	slow := make(map[int32]int64)
	for _, n := range info.Nodes {
		if n.SlowDiskMS > 0 {
			slow[n.Node] = n.SlowDiskMS
		}
	}
	return slow
}

// TestSlowDisk makes one node's syncs slow under load: it hands what it leads
// over and says so, and takes it back when it is well. When all are slow all go on.
func TestSlowDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	var disks [4]vfs.Slow
	c := Start(t, 3, func(cfg *node.Config) { cfg.FS = vfs.NewFail(vfs.OS, disks[cfg.NodeID].Hook) })
	c.spread(t, "numbers", 3)
	adm := kadm.NewClient(c.Client())
	leads := func(id int32) (n int) {
		for _, leader := range c.leaders(adm, "numbers", 3) {
			if leader == id {
				n++
			}
		}
		return n
	}
	all := c.writers("numbers", 3, 2<<10, 10*time.Millisecond)
	fresh(t, "before", all)
	for id := range disks {
		disks[id].Set(60 * time.Millisecond)
	}
	fresh(t, "while all are slow", all)
	pass(t, 12*time.Second)
	if slow := c.slowDisks(t, 1); len(slow) > 0 {
		t.Errorf("all disks are slow, and of nodes %v it is said", slow)
	}
	disks[1].Set(0)
	disks[3].Set(0)
	within := func(what string, ok func() bool) {
		t.Helper()
		for until := time.Now().Add(2 * time.Minute); !ok(); {
			if time.Now().After(until) {
				t.Fatalf("waited in vain: %s", what)
			}
			pass(t, 200*time.Millisecond)
		}
	}
	within("the slow node to lead nothing", func() bool { return leads(2) == 0 && leads(1)+leads(3) == 3 })
	within("the slow node to say so", func() bool { return c.slowDisks(t, 1)[2] >= 50 })
	if slow := c.slowDisks(t, 3); len(slow) != 1 {
		t.Errorf("slow are %v", slow)
	}
	fresh(t, "with one slow", all)
	disks[2].Set(0)
	within("the node to be well again", func() bool { return len(c.slowDisks(t, 1)) == 0 })
	fresh(t, "after", all)
	c.finish(t, all)
}
