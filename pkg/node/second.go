package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/pkg/election"
)

// A node id belongs to one process at a time. One with a copy of the other's data
// directory would even hold its replicas: they must not vote twice.

// newsTimeout is how long a start waits for etcd to say where the node was
// registered last; without it, what the data directory knows has to do.
const newsTimeout = 500 * time.Millisecond

// refuseSecond refuses to open the replicas while the process that was registered
// last, at other addresses, answers. The registration comes later: it would be
// too late by then, and does not come at all while etcd is away.
func (n *Node) refuseSecond(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, newsTimeout)
	defer cancel()
	v, err := n.store.WaitFor(wait, func(v *cluster.View) bool { return v.Source == cluster.SourceEtcd })
	if err != nil {
		v = n.store.View()
	}
	other, known := v.Nodes[n.dir.id.NodeID]
	httpAddr, _ := advertised(n.cfg.HTTPAdvertise, n.httpLn.Addr())
	peer, _ := advertised(n.cfg.PeerAdvertise, n.peerLn.Addr())
	if !known || other.HTTP == httpAddr || other.Peer == peer || !n.answers(other) {
		return nil
	}
	return n.inUse(other)
}

// onHeld decides when another lease holds this node's key. Its own former
// process is dead, since this one has its directory and a port of it; anybody else
// is asked. A key without a lease is nobody's.
func (n *Node) onHeld(held *election.HeldError) (takeOver bool, err error) {
	if held.Lease == clientv3.NoLease {
		return true, nil // no node writes that: somebody has edited the key by hand
	}
	var other cluster.Node
	if json.Unmarshal(held.Value, &other) != nil {
		return false, nil // nonsense under a lease: wait until it expires
	}
	me := n.self()
	if other.Incarnation == me.Incarnation && (other.Peer == me.Peer || other.Kafka == me.Kafka || other.HTTP == me.HTTP) {
		return true, nil
	}
	if !n.answers(other) {
		return false, nil // probably dead: wait until its lease expires
	}
	return false, n.inUse(other)
}

func (n *Node) inUse(other cluster.Node) error {
	return fmt.Errorf("node id %d is in use by a live process at %s (pid %d, incarnation %s): give this node another --node-id, or stop that one",
		n.dir.id.NodeID, other.Peer, other.PID, other.Incarnation)
}

// answers asks at a node's HTTP address whether it is that node that serves
// there: another one may have its address by now.
func (n *Node) answers(other cluster.Node) bool {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + other.HTTP + "/cluster.json")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var found struct {
		Self struct {
			Incarnation string `json:"incarnation"`
		} `json:"self"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(&found)
	return err == nil && found.Self.Incarnation == other.Incarnation
}
