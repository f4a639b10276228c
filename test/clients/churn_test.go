package clients

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/raftsman/raftsman/test/clients/agent"
)

const (
	churnPartitions = 30
	churnMembers    = 10
	// rebalanceLimit is how long it may take from a change until every member
	// has partitions again.
	rebalanceLimit = sessionTimeout*time.Millisecond + 3*time.Second
)

var churnClients = []string{"franz-go", "sarama", "librdkafka"}

// churn is a group whose members come and go.
type churn struct {
	trial
	t       *testing.T
	random  *rand.Rand
	tally   *tally
	alive   []*run
	next    int // of churnClients
	slowest time.Duration
}

// TestChurn has ten members of three clients share 30 partitions while they are
// killed, paused and added at random, and the coordinator's node is killed.
// RAFTSMAN_MINUTES (default half a minute), RAFTSMAN_KILLS (default 1; 3 from three
// minutes on) and RAFTSMAN_SEED change it.
func TestChurn(t *testing.T) {
	minutes, kills := number64(t, "RAFTSMAN_MINUTES", 0), int64(1)
	if minutes >= 3 {
		kills = 3
	}
	kills = number64(t, "RAFTSMAN_KILLS", kills)
	seed := number64(t, "RAFTSMAN_SEED", time.Now().UnixNano())
	t.Logf("RAFTSMAN_SEED=%d", seed)
	c := startCluster(t)
	ch := &churn{
		trial:  trial{cluster: c, topic: "churn", group: "churn"},
		t:      t,
		random: rand.New(rand.NewPCG(uint64(seed), 0)),
		tally:  newTally(),
	}
	if err := c.create(t.Context(), ch.topic, churnPartitions); err != nil {
		t.Fatal(err)
	}
	watch := watchCommits(t, c)
	watch.add(ch.group)
	defer func() {
		for _, m := range ch.alive {
			m.signal(syscall.SIGCONT)
			m.kill()
		}
	}()
	for range churnMembers {
		ch.add()
	}
	ch.settle("the first members", 60*time.Second)
	load, err := start("franz-go", ch.with("load", func(j *agent.Job) { j.Count, j.Every = churnPartitions, 5 }), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer load.kill()
	length := max(time.Duration(minutes)*time.Minute, 30*time.Second)
	began, killed := time.Now(), int64(0)
	for time.Since(began) < length || killed < kills {
		if killed < kills && time.Since(began) > length*time.Duration(killed+1)/time.Duration(kills+1) {
			ch.killCoordinator()
			killed++
		} else {
			ch.change()
		}
		pass(t, time.Duration(500+ch.random.IntN(2500))*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := load.leave(ctx); err != nil {
		t.Fatalf("the producer: %v", err)
	}
	ended := time.Now()
	if err := until(ctx, func() error { return ch.tally.missing(load.acked) }); err != nil {
		t.Fatal(err)
	}
	t.Logf("the members were through %v after the producer", time.Since(ended).Round(10*time.Millisecond))
	watch.stop()
	if err := watch.wentBack(ch.group); err != nil {
		t.Error(err)
	}
	processed, again := ch.tally.counts()
	t.Logf("%d records processed, %d again (%.2f %%); the slowest rebalance took %v",
		processed, again, 100*float64(again)/float64(processed), ch.slowest.Round(10*time.Millisecond))
	if again*20 > processed {
		t.Errorf("%d of %d records were processed again, more than 5 %%", again, processed)
	}
}

func number64(t *testing.T, name string, other int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return other
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// add starts a member of the next client.
func (ch *churn) add() {
	ch.t.Helper()
	client := churnClients[ch.next%len(churnClients)]
	ch.next++
	m, err := start(client, ch.job("member"), ch.tally.event)
	if err != nil {
		ch.t.Fatal(err)
	}
	ch.alive = append(ch.alive, m)
}

// settle waits until every member has partitions, and measures it.
func (ch *churn) settle(what string, limit time.Duration) {
	ch.t.Helper()
	ctx, cancel := context.WithTimeout(ch.t.Context(), limit)
	defer cancel()
	began := time.Now()
	err := ch.settled(ctx, len(ch.alive), ch.alive...)
	took := time.Since(began)
	ch.t.Logf("%s: %d members settled after %v", what, len(ch.alive), took.Round(10*time.Millisecond))
	if err != nil {
		ch.t.Fatalf("%s: not settled after %v: %v", what, limit, err)
	}
	if limit == rebalanceLimit {
		ch.slowest = max(ch.slowest, took)
	}
}

// change changes one thing about the members at random.
func (ch *churn) change() {
	ch.t.Helper()
	i := ch.random.IntN(len(ch.alive))
	m := ch.alive[i]
	switch ch.random.IntN(4) {
	case 0: // killed: the group goes on without it, then one is added
		m.kill()
		ch.alive = append(ch.alive[:i], ch.alive[i+1:]...)
		ch.settle("killed "+m.client, rebalanceLimit)
		ch.add()
		ch.settle("added "+ch.alive[len(ch.alive)-1].client, rebalanceLimit)
	case 1: // one more, one leaves
		ch.add()
		ch.settle("added "+ch.alive[len(ch.alive)-1].client, rebalanceLimit)
		ctx, cancel := context.WithTimeout(ch.t.Context(), 30*time.Second)
		defer cancel()
		ch.alive = append(ch.alive[:i], ch.alive[i+1:]...)
		if _, err := m.leave(ctx); err != nil {
			ch.t.Errorf("leave: %v", err)
		}
		ch.settle("left: "+m.client, rebalanceLimit)
	case 2: // paused for less than the session
		m.signal(syscall.SIGSTOP)
		pass(ch.t, time.Duration(ch.random.IntN(sessionTimeout/2))*time.Millisecond)
		m.signal(syscall.SIGCONT)
		ch.settle("a short pause of "+m.client, rebalanceLimit)
	case 3: // paused until it is thrown out; then it comes back
		m.signal(syscall.SIGSTOP)
		ch.alive = append(ch.alive[:i], ch.alive[i+1:]...)
		ch.settle("a long pause of "+m.client, rebalanceLimit)
		m.signal(syscall.SIGCONT)
		ch.alive = append(ch.alive, m)
		ch.settle("it goes on", rebalanceLimit)
	}
}

// killCoordinator kills the node that coordinates the group, and starts it again
// when the group has settled.
func (ch *churn) killCoordinator() {
	ch.t.Helper()
	g, err := ch.described(ch.t.Context())
	if err != nil {
		ch.t.Fatal(err)
	}
	id := g.coordinator
	ch.nodes[id-1].kill()
	ch.settle(fmt.Sprintf("killed node %d, the coordinator", id), rebalanceLimit)
	ch.nodes[id-1].start()
	ch.waitReady(id)
	ch.settle(fmt.Sprintf("node %d is back", id), rebalanceLimit)
}

// tally counts how often each number was processed.
type tally struct {
	mu    sync.Mutex
	times map[string]int // by value
	total int
}

func newTally() *tally { return &tally{times: map[string]int{}} }

func (ta *tally) event(e agent.Event) {
	ta.mu.Lock()
	defer ta.mu.Unlock()
	for _, r := range e.Records {
		ta.times[string(r.Value)]++
		ta.total++
	}
}

// missing is an error while one of the numbers was not processed.
func (ta *tally) missing(numbers []int) error {
	ta.mu.Lock()
	defer ta.mu.Unlock()
	for _, n := range numbers {
		if ta.times[strconv.Itoa(n)] == 0 {
			return fmt.Errorf("number %d was acknowledged and never processed (%d of %d were)", n, len(ta.times), len(numbers))
		}
	}
	return nil
}

// counts are the records that were processed, and how many of those were again.
func (ta *tally) counts() (processed, again int) {
	ta.mu.Lock()
	defer ta.mu.Unlock()
	return len(ta.times), ta.total - len(ta.times)
}
