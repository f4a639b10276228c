//go:build system

package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ledPartition is a partition as a node tells of it.
type ledPartition struct {
	Topic     string
	Partition int32
	Leader    int
	Term      uint64
	Replicas  []int
	InSync    []int `json:"in_sync"`
	Lagging   []int
	Offline   []int
	Moving    bool
}

func (p ledPartition) String() string {
	return fmt.Sprintf("leader %d, term %d, replicas %v, in sync %v, lagging %v, offline %v, moving %v", p.Leader, p.Term, p.Replicas, p.InSync, p.Lagging, p.Offline, p.Moving)
}

// partitions is what one node knows of all partitions, nil if it does not answer.
func (c *cluster) partitions(node int) map[place]ledPartition {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + c.http[node-1] + "/partitions")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var list []ledPartition
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&list) != nil {
		return nil
	}
	all := make(map[place]ledPartition)
	for _, p := range list {
		all[place{p.Topic, p.Partition}] = p
	}
	return all
}

// isReady says whether a node says so.
func (c *cluster) isReady(node int) bool {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + c.http[node-1] + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// agreed is what all nodes say alike of all partitions, or why the cluster has
// not recovered yet.
func (c *cluster) agreed() (all map[place]ledPartition, why string) {
	for id := range len(c.nodes) {
		if !c.isReady(id + 1) {
			return nil, fmt.Sprintf("node %d is not ready", id+1)
		}
		told := c.partitions(id + 1)
		if len(told) != trioPartitions+pairPartitions {
			return nil, fmt.Sprintf("node %d knows %d partitions", id+1, len(told))
		}
		for at, p := range told {
			if p.Leader <= 0 || len(p.InSync) != len(p.Replicas) || p.Moving || len(p.Offline)+len(p.Lagging) > 0 {
				return nil, fmt.Sprintf("node %d says of %v: %v", id+1, at, p)
			}
			if all != nil && (all[at].Leader != p.Leader || all[at].Term != p.Term || !slices.Equal(all[at].Replicas, p.Replicas)) {
				return nil, fmt.Sprintf("of %v node %d says: %v, and node %d: %v", at, id, all[at], id+1, p)
			}
		}
		all = told
	}
	return all, ""
}

// registeredAll says whether all nodes are registered and stand for election.
func (x *pausing) registeredAll() (why string) {
	ctx, cancel := contextOf(x.t, 2*time.Second)
	defer cancel()
	for _, dir := range []string{"nodes/", "leader/"} {
		got, err := x.etcd.Get(ctx, keyBase+dir, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil || got.Count != int64(len(x.nodes)) {
			return fmt.Sprintf("etcd holds not all of %s: %v, %v", dir, got, err)
		}
	}
	return ""
}

// theWinner is the node that has won the election, 0 for none.
func (x *pausing) theWinner() int {
	ctx, cancel := contextOf(x.t, 2*time.Second)
	defer cancel()
	got, err := x.etcd.Get(ctx, keyBase+"leader/", clientv3.WithFirstCreate()...)
	var who struct {
		Node int `json:"node"`
	}
	if err != nil || len(got.Kvs) == 0 || json.Unmarshal(got.Kvs[0].Value, &who) != nil {
		return 0
	}
	return who.Node
}

// persist tries until it succeeds or ctx ends: etcd may be choosing a leader.
func persist(ctx context.Context, try func() error) error {
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-pause.C:
		}
	}
}

// revokeAll revokes every lease there is, all at once.
func (x *pausing) revokeAll() error {
	ctx, cancel := contextOf(x.t, 20*time.Second)
	defer cancel()
	got, err := x.etcd.Leases(ctx)
	if err != nil {
		return err
	}
	failed := make(chan error, len(got.Leases))
	for _, l := range got.Leases {
		go func() {
			_, err := x.etcd.Revoke(ctx, l.ID)
			if errors.Is(err, rpctypes.ErrLeaseNotFound) { // it has run out meanwhile
				err = nil
			}
			failed <- err
		}()
	}
	for range got.Leases {
		err = errors.Join(err, <-failed)
	}
	return err
}

// finalOp says whether an operation has ended, and how.
func (x *pausing) finalOp(id string) (state string, final bool) {
	ctx, cancel := contextOf(x.t, 2*time.Second)
	defer cancel()
	got, err := x.etcd.Get(ctx, keyBase+"ops/"+id)
	if err != nil {
		return "", false
	}
	if len(got.Kvs) == 0 {
		return "forgotten", true
	}
	var op struct{ State, Reason string }
	if json.Unmarshal(got.Kvs[0].Value, &op) != nil {
		return "", false
	}
	return op.State, slices.Contains([]string{"done", "refused", "failed", "cancelled"}, op.State)
}

// steadySpread is a spread of a few small records at a steady pace, which can
// stop for a look at what was written.
type steadySpread struct {
	*spread
	places []place
	rnd    *rand.Rand
	turn   sync.Mutex // held from one record to the next, and while it is stopped
	end    chan struct{}
	ended  chan struct{}
}

func startSteadySpread(t *testing.T, brokers []string, seed uint64, topic string, partitions int) *steadySpread {
	t.Helper()
	s := &steadySpread{
		spread: startSpread(t, brokers, seed), rnd: rand.New(rand.NewPCG(seed, 2)),
		end: make(chan struct{}), ended: make(chan struct{}),
	}
	s.add(topic, partitions, true, false)
	s.places = slices.Collect(maps.Keys(s.seqs))
	go s.runSteadily()
	t.Cleanup(s.halt)
	return s
}

func (s *steadySpread) runSteadily() {
	defer close(s.ended)
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-s.end:
			return
		case <-pace.C:
		}
		s.turn.Lock()
		s.write(s.places[s.rnd.IntN(len(s.places))], s.rnd.IntN(300))
		s.turn.Unlock()
	}
}

// halt stops it for good.
func (s *steadySpread) halt() {
	close(s.end)
	s.client.Close() // a write that waits for room ends with an error
	<-s.ended
	close(s.stop)
	<-s.done
}

// look reads back all that was acknowledged by now, while nothing is written.
func (s *steadySpread) look(t *testing.T, brokers []string) {
	t.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	ctx, cancel := contextOf(t, time.Minute)
	defer cancel()
	if err := s.client.Flush(ctx); err != nil {
		t.Fatalf("the producer can't flush within a minute: %v", err)
	}
	s.mu.Lock()
	for _, err := range s.failed {
		t.Error(err)
	}
	s.failed = nil
	s.mu.Unlock()
	s.verify(t, brokers)
}
