//go:build system

package system

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// spoilt is a key that somebody edits by hand.
type spoilt struct {
	key    string
	value  string // default: no JSON
	heals  bool   // whoever owns it writes it again
	remove bool   // to mend is to delete it
	refuse string // what a wish for a new topic is refused with meanwhile; empty: it may work
	silent bool   // its value is not looked at, or nobody is left to see it
}

// TestNonsense writes nonsense to each kind of key: it is reported once, with the
// key and the reason, data is served on, and all is well when it is mended.
func TestNonsense(t *testing.T) {
	x := newTrouble(t, startPlain(t, 3, plainEtcd{}))
	winner := strings.Fields(x.etcdctl("get", "--prefix", "--keys-only", "--sort-by", "CREATE", "--order", "ASCEND", "/raftsman/default/leader/"))
	for i := range winner {
		winner[i] = strings.TrimPrefix(winner[i], "/raftsman/default/")
	}
	for i, s := range []spoilt{
		{key: "meta", refuse: "meta makes no sense"},
		{key: "meta", value: `{"cluster_id":"x","epoch":0}`, refuse: "meta makes no sense"},
		{key: "nodes/2", heals: true},
		{key: winner[1], heals: true}, // of one that waits
		{key: winner[0], heals: true},
		{key: "topics/numbers"},
		{key: "topics/side", value: `{"topic_id":"","partitions":4,"replication_factor":3}`},
		{key: "assignments/numbers/0"},
		{key: "assignments/side/3", value: `{"topic_id":"x","replicas":[],"epoch":1,"generation":9}`},
		{key: "status/2", heals: true},
		{key: "deleted/4e2c", remove: true},
		{key: "producer-ids"},
		{key: "replica-ids"},
		{key: "node-ids", value: `{"next":-4}`},
		{key: "frozen", remove: true, silent: true, refuse: "frozen"},
		{key: "ops/by-hand", remove: true},
		{key: "config/nodes/2", value: `{"state":"asleep"}`, remove: true},
		{key: "config/rebalance", remove: true},
	} {
		x.spoil(fmt.Sprintf("during-%d", i), s)
	}
	x.mended("after")
	x.finish()
}

func (x *trouble) spoil(topic string, s spoilt) {
	x.t.Helper()
	key := "/raftsman/default/" + s.key
	was := ""
	if !s.heals && !s.remove {
		was = x.value(s.key)
	}
	if s.value == "" {
		s.value = "{nonsense"
	}
	x.begin()
	x.etcdctl("put", key, s.value)
	x.t.Logf("%s = %s", s.key, s.value)
	if s.silent {
		x.hasLogged("changes are refused, data is served on")
	} else {
		x.hasLogged("key=" + key)
	}
	x.load.goesOn(x.t)
	x.newClients(1, "side")
	message, code := x.tryCreate(2, topic)
	if code != nil && !retriable(code) || s.refuse != "" && !strings.Contains(message, s.refuse) {
		x.t.Errorf("%s: a new topic: %v %q", s.key, code, message)
	}
	switch {
	case s.remove:
		x.etcdctl("del", key)
	case !s.heals:
		x.etcdctl("put", key, was)
	}
	if s.silent {
		x.hasLogged("changes are accepted")
	} else {
		x.hasLogged("as it should be again\" key=" + key)
		x.once("level=ERROR", "makes no sense", "key="+key+" ", "err=")
	}
	waitFor(x.t, "topic "+topic, 60*time.Second, func() bool { return x.created(2, topic) })
	waitFor(x.t, "all nodes to be registered", 30*time.Second, func() bool {
		return strings.Count(x.etcdctl("get", "--prefix", "--keys-only", "/raftsman/default/nodes/"), "/nodes/") == 3
	})
	x.quiet(3)
}

// created asks for a topic, and says whether it is there and has a leader.
func (x *trouble) created(node int, topic string) bool {
	x.t.Helper()
	message, code := x.tryCreate(node, topic)
	if code != nil && !retriable(code) && !strings.Contains(code.Error(), "ALREADY_EXISTS") {
		x.t.Fatalf("create %s: %v %s", topic, code, message)
	}
	return x.leader(topic, 0) > 0
}

// TestKeysDeletedByHand deletes topics' and assignments' keys: nothing is deleted,
// and nothing is begun anew, whoever wins; the operator puts them back from what
// the nodes know.
func TestKeysDeletedByHand(t *testing.T) {
	x := newTrouble(t, startPlain(t, 3, plainEtcd{}))
	keys := x.keys()
	ids := x.value("replica-ids")
	lost := []string{"assignments/numbers/0", "assignments/side/3", "topics/side"}
	for _, key := range lost {
		x.etcdctl("del", "/raftsman/default/"+key)
	}
	for _, key := range lost {
		x.hasLogged("key=/raftsman/default/" + key)
		x.once("level=ERROR", "key=/raftsman/default/"+key+" ", "restore-metadata")
	}
	x.serves()
	if message, code := x.tryCreate(1, "side"); code == nil || !strings.Contains(message, "restore-metadata") {
		t.Errorf("a topic in the place of one whose key is gone: %v %s", code, message)
	}
	x.mended("meanwhile")

	waitFor(t, "node 1 to have it on disk", 30*time.Second, func() bool { // else it would freeze, as after a restored backup
		b, err := os.ReadFile(x.viewFile(1))
		return err == nil && strings.Count(string(b), `"gone":true`) == len(lost)
	})
	x.node(1).kill() // and it starts with what it has on disk
	x.node(1).start()
	x.waitReady(1)
	x.serves()
	x.begin()
	winner := x.winner()
	x.etcdctl("lease", "revoke", leaseOf(t, x.etcdctl("get", fmt.Sprintf("/raftsman/default/nodes/%d", winner), "-w", "fields")))
	waitFor(t, "another winner", 30*time.Second, func() bool { w := x.winnerOrNone(); return w > 0 && w != winner })
	x.mended("another-winner")
	joined := x.addNode() // one that has never seen the keys
	x.waitReady(joined)
	for w := x.winner(); w != joined; w = x.winner() {
		x.etcdctl("lease", "revoke", leaseOf(t, x.etcdctl("get", fmt.Sprintf("/raftsman/default/nodes/%d", w), "-w", "fields")))
		waitFor(t, "another winner", 30*time.Second, func() bool { n := x.winnerOrNone(); return n > 0 && n != w })
	}
	waitFor(t, "the new winner to say what it does not place", 30*time.Second, func() bool {
		return strings.Contains(x.node(joined).logs(), "a partition is never begun anew")
	})
	for _, key := range lost {
		if now := x.value(key); now != "" {
			t.Errorf("%s was written again: %s", key, now)
		}
	}
	x.load.goesOn(t)

	out, err := x.raftsman("cluster", "restore-metadata", "--http", x.http[0], "--yes")
	if err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	now := x.keys()
	for _, key := range lost {
		_, want, _ := strings.Cut(keys, key+"\n")
		want, _, _ = strings.Cut(want, "\n")
		if !strings.Contains(now, key+"\n"+want+"\n") {
			t.Errorf("%s is not as it was, %s", key, want)
		}
	}
	t.Logf("replica ids: %s, then %s", ids, x.value("replica-ids"))
	x.mended("after")
	x.finish()
}
