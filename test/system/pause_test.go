//go:build system

package system

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// pausing is a cluster under load whose processes are paused.
type pausing struct {
	*cluster
	t       *testing.T
	lab     *lab
	etcd    *clientv3.Client
	history *history
	loads   []*steadySpread

	before map[place]ledPartition // when the last round was over
	tally  map[string]int         // what the rounds have met
}

// TestPaused pauses the winner, leaders and followers of partitions by SIGSTOP
// for times about the limits of leases and elections, round after round, with
// faults of etcd and of the network mixed in: never do two winners write, no
// acknowledged record is lost, no leader that was well is deposed, and the
// replicas are the same at the end. RAFTSMAN_ROUNDS is the last round (500 take about
// 25 minutes), RAFTSMAN_SEED repeats a run's choices, and RAFTSMAN_ROUND begins at
// a round, with a new cluster.
func TestPaused(t *testing.T) {
	seed, _ := seeded(t)
	first, rounds := fromEnv("RAFTSMAN_ROUND", 1), fromEnv("RAFTSMAN_ROUNDS", 12)
	if first > rounds {
		t.Fatalf("round %d is not among %d", first, rounds)
	}
	x := newPausing(t, seed)
	began := time.Now()
	for n := first; n <= rounds; n++ {
		x.round(planPause(seed, n))
		if n%25 == 0 {
			for _, l := range x.loads {
				l.look(t, x.kafka)
			}
		}
		if t.Failed() {
			t.Fatalf("to see it again: RAFTSMAN_SEED=%d RAFTSMAN_ROUND=%d RAFTSMAN_ROUNDS=%d", seed, n, n)
		}
	}
	for _, l := range x.loads {
		l.look(t, x.kafka)
	}
	v, code, stderr := x.verify(1, "--quiet")
	if code != 0 {
		t.Errorf("cluster verify: exit code %d, %+v\n%s", code, v, stderr)
	}
	refused, empty := 0, 0
	for _, p := range x.nodes {
		for line := range strings.SplitSeq(p.logs(), "\n") {
			if strings.Contains(line, "transaction refused: this node's leadership is over") {
				refused++
				if strings.Contains(line, " changes=0 ") { // it asks who has won
					empty++
				}
			}
		}
	}
	t.Logf("rounds %d to %d in %v: %v", first, rounds, time.Since(began).Round(time.Second), x.history)
	t.Logf("%d transactions of former winners refused, %d of them with changes; met: %v", refused, refused-empty, x.tally)
}

func newPausing(t *testing.T, seed uint64) *pausing {
	t.Helper()
	c := startCluster(t, 3, pauseTTL)
	x := &pausing{cluster: c, t: t, lab: startLab(t, c), tally: map[string]int{}}
	x.etcd = etcdClient(t, c)
	x.history = startHistory(t, x.etcd)
	c.createWith(trios, "--partitions", fmt.Sprint(trioPartitions), "--replication-factor", "3")
	c.createWith(pairs, "--partitions", fmt.Sprint(pairPartitions), "--replication-factor", "2")
	// Leaderships move for no order's sake: one that moves was lost.
	c.etcdctl("put", keyBase+"config/rebalance", `{"paused":true}`)
	x.loads = []*steadySpread{
		startSteadySpread(t, c.kafka, seed, trios, trioPartitions),
		startSteadySpread(t, c.kafka, seed+1, pairs, pairPartitions),
	}
	x.settle(0, 0)
	return x
}

// step is something that is done at a time of the round.
type step struct {
	at time.Duration
	do func()
}

// round does what is planned, waits until all is well again, and judges.
func (x *pausing) round(r pauseRound) {
	x.t.Helper()
	began := time.Now()
	touched, steps := x.pauses(r)
	more, revoked := x.faults(r, touched)
	steps = append(steps, more...)
	asked, asking := x.wishes(r)
	steps = append(steps, asking...)
	slices.SortStableFunc(steps, func(a, b step) int { return int(a.at - b.at) })
	for _, s := range steps {
		<-time.After(time.Until(began.Add(s.at)))
		s.do()
	}
	done := time.Now()
	if err := <-revoked; err != nil {
		x.t.Errorf("revoke all leases: %v", err)
	}
	for range r.wishes {
		if err := <-asked; err != nil {
			x.t.Errorf("ask for a move: %v", err)
		}
	}
	before := x.before
	x.settle(r.number, len(r.wishes))
	x.t.Logf("round %d: %v; nodes %v; recovered %v after that", r.number, r, touched, time.Since(done).Round(time.Millisecond))
	x.history.check(x.t)
	x.keptLeaders(r, before, touched, began)
}

// pauses finds out who has which role, and stops and continues them. It returns
// the nodes that are touched.
func (x *pausing) pauses(r pauseRound) (touched map[int]string, steps []step) {
	x.t.Helper()
	touched = map[int]string{}
	for _, v := range r.victims {
		node := x.holder(v, touched)
		if node == 0 {
			x.tally["two roles at one node"]++
			continue
		}
		p := x.node(node)
		touched[node] = v.role
		x.tally[v.role]++
		steps = append(steps, step{v.at, func() { p.signal(syscall.SIGSTOP) }}, step{v.at + v.length, func() { p.signal(syscall.SIGCONT) }})
	}
	return touched, steps
}

// holder is the node with a role, 0 if that one is a victim already.
func (x *pausing) holder(v victim, taken map[int]string) (node int) {
	x.t.Helper()
	p := x.before[v.of]
	switch v.role {
	case roleWinner:
		waitFor(x.t, "a winner", 30*time.Second, func() bool { node = x.theWinner(); return node > 0 })
	case roleLeader:
		node = p.Leader
	case roleFollower:
		for _, id := range p.Replicas {
			if id != p.Leader {
				node = id
			}
		}
	}
	if taken[node] != "" {
		return 0
	}
	return node
}

// faults makes steps of what happens beside the pauses. What it returns as
// revoked ends with the answer to the revocations.
func (x *pausing) faults(r pauseRound, touched map[int]string) (steps []step, revoked chan error) {
	o := r.other
	x.tally[o.kind]++
	revoked = make(chan error, 1)
	begin := func(f func()) { steps = append(steps, step{o.at, f}) }
	end := func(f func()) { steps = append(steps, step{o.at + o.length, f}) }
	cut := func(rules func(id int)) {
		id := o.target + 1
		touched[id] += " cut"
		begin(func() { rules(id) })
		end(func() { x.lab.heal(id) })
	}
	if o.kind == allRevoked {
		begin(func() { go func() { revoked <- x.revokeAll() }() })
		return steps, revoked
	}
	close(revoked)
	member := x.etcds[o.target]
	switch o.kind {
	case etcdPaused:
		begin(func() { member.signal(syscall.SIGSTOP) })
		end(func() { member.signal(syscall.SIGCONT) })
	case etcdKilled:
		begin(member.kill)
		end(member.start)
	case allEtcdPaused:
		for _, e := range x.etcds {
			begin(func() { e.signal(syscall.SIGSTOP) })
			end(func() { e.signal(syscall.SIGCONT) })
		}
	case cutBoth:
		cut(func(id int) { x.lab.cut(id, 3, true, true) })
	case cutIn:
		cut(func(id int) { x.lab.cut(id, 3, true, false) })
	case cutOut:
		cut(func(id int) { x.lab.cut(id, 3, false, true) })
	case cutEtcd:
		cut(func(id int) {
			for _, url := range x.etcdURL {
				x.lab.nft(id, "add rule inet fault out tcp dport "+url[strings.LastIndex(url, ":")+1:]+" drop")
			}
		})
	}
	return steps, revoked
}

// wishes makes steps that ask for moves, and a channel of the answers.
func (x *pausing) wishes(r pauseRound) (asked chan error, steps []step) {
	asked = make(chan error, len(r.wishes))
	for i, w := range r.wishes {
		value := fmt.Sprintf(`{"kind":"move","topic":%q,"partition":%d,"replicas":%s}`, w.of.topic, w.of.partition, strings.ReplaceAll(fmt.Sprint(w.nodes), " ", ","))
		steps = append(steps, step{w.at, func() {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				key := keyBase + "ops/" + wishID(r.number, i)
				asked <- persist(ctx, func() error { // once, also when an answer is lost
					_, err := x.etcd.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, value)).Commit()
					return err
				})
			}()
		}})
	}
	return asked, steps
}

func wishID(round, i int) string { return fmt.Sprintf("round-%d-%d", round, i) }

// settle waits until all nodes are ready, registered and agree that all
// partitions are in sync, every wish was dealt with, and every partition takes
// records.
func (x *pausing) settle(round, wishes int) {
	x.t.Helper()
	why := ""
	defer func() {
		if why != "" {
			x.t.Logf("round %d: not settled: %s", round, why)
		}
	}()
	for i := range wishes {
		id, state := wishID(round, i), ""
		why = "an operation"
		waitFor(x.t, "operation "+id, 90*time.Second, func() (final bool) {
			state, final = x.finalOp(id)
			return final
		})
		x.tally["move "+state]++
	}
	waitFor(x.t, "the cluster to recover", 90*time.Second, func() bool {
		if why = x.registeredAll(); why == "" {
			x.before, why = x.agreed()
		}
		return why == ""
	})
	for _, l := range x.loads {
		why = "the load"
		l.begin(round + 1)
		l.writeAll()
		waitFor(x.t, "acknowledgements of all partitions", 60*time.Second, func() bool { return l.everywhere(round + 1) })
	}
	why = ""
}

// keptLeaders checks that no leader has changed, nor its term, whose node nothing
// was done to while it reached a majority to which nothing was done either.
func (x *pausing) keptLeaders(r pauseRound, before map[place]ledPartition, touched map[int]string, began time.Time) {
	x.t.Helper()
	for at, was := range before {
		well := 0
		for _, id := range was.Replicas {
			if touched[id] == "" {
				well++
			}
		}
		if touched[was.Leader] != "" || well <= len(was.Replicas)/2 || r.moves(at) {
			continue
		}
		x.tally["leaders that had to stay"]++
		if now := x.before[at]; now.Leader != was.Leader || now.Term != was.Term {
			x.t.Errorf("round %d: %v was led by node %d at term %d, to which nothing was done, and is led by node %d at term %d", r.number, at, was.Leader, was.Term, now.Leader, now.Term)
		}
	}
	if x.t.Failed() {
		x.logSince(began)
	}
}
