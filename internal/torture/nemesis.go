package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/torture/history"
)

// errNotNow says that a fault makes no sense now.
var errNotNow = errors.New("not now")

// faults are all that can be done to the target.
func (r *run) faults() []fault {
	all := r.target.faults()
	if l, ok := r.target.(*local); ok {
		all = append(all, r.diskFaults(l)...)
	}
	if len(r.target.http()) > 0 {
		all = append(all, fault{name: "transfer", begin: r.transfer}, fault{name: "move", begin: r.move})
	}
	all = append(all, fault{name: "disconnect", begin: r.dialer.disconnect})
	if r.NemesisCommand != "" {
		all = append(all, fault{name: "command", begin: r.command})
	}
	return all
}

// choose keeps the faults that are wanted.
func choose(all []fault, want []string) ([]fault, error) {
	names := make([]string, len(all))
	for i, f := range all {
		names[i] = f.name
	}
	if len(want) == 0 {
		return all, nil
	}
	if len(want) == 1 && want[0] == "none" {
		return nil, nil
	}
	var chosen []fault
	for _, name := range want {
		i := slices.Index(names, name)
		if i < 0 {
			return nil, fmt.Errorf("--nemesis %q: this target can do %s, or none", name, strings.Join(names, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// nemesis does faults, one after the other or two at a time, until ctx ends, and
// undoes all of them.
func (r *run) nemesis(ctx context.Context, faults []fault) error {
	rnd := rand.New(rand.NewPCG(r.Seed, 1<<32))
	if len(faults) == 0 {
		<-ctx.Done()
		return nil
	}
	between := func(low, high int) time.Duration {
		return time.Duration(low+rnd.IntN(high-low)) * time.Millisecond
	}
	for wait(ctx, between(300, 2000)) {
		first := faults[rnd.IntN(len(faults))]
		second := faults[rnd.IntN(len(faults))]
		both := rnd.IntN(3) == 0 && !first.alone && !second.alone
		undo := []func() error{r.inflict(ctx, first, rnd)}
		if both && wait(ctx, between(0, 500)) {
			undo = append(undo, r.inflict(ctx, second, rnd))
		}
		// Short ones are over before anybody has noticed; long ones are noticed by all.
		wait(ctx, []time.Duration{between(10, 300), between(300, 1500), between(1500, 6000)}[rnd.IntN(3)])
		for _, f := range undo {
			if err := f(); err != nil {
				return err
			}
		}
	}
	return nil
}

// inflict does one fault and returns what undoes it.
func (r *run) inflict(ctx context.Context, f fault, rnd *rand.Rand) (undo func() error) {
	// The choices are the seed's, whatever time they come at.
	choices := rand.New(rand.NewPCG(rnd.Uint64(), 0))
	id := r.hist.Begin(history.Event{Op: history.Fault, Text: f.name})
	what, end, err := f.begin(ctx, choices)
	if err != nil {
		r.hist.End(id, history.Event{Is: history.Failed, Text: text(err)})
		if !errors.Is(err, errNotNow) && ctx.Err() == nil {
			r.Logger.Info("a fault could not be done", "fault", f.name, "err", err)
		}
		return func() error { return nil }
	}
	r.mu.Lock()
	r.now.Fault = f.name + " " + what
	r.mu.Unlock()
	return func() error {
		var err error
		if end != nil {
			err = end()
		}
		r.hist.End(id, history.Event{Is: history.OK, Text: f.name + " " + what})
		return err
	}
}

// transfer hands a partition's leadership to another replica.
func (r *run) transfer(ctx context.Context, rnd *rand.Rand) (string, func() error, error) {
	placed, err := r.placed(ctx)
	if err != nil {
		return "", nil, err
	}
	if len(placed) == 0 {
		return "", nil, errNotNow
	}
	p := placed[rnd.IntN(len(placed))]
	others := slices.DeleteFunc(slices.Clone(p.Replicas), func(n int32) bool { return n == p.Leader })
	if len(others) == 0 {
		return "", nil, errNotNow
	}
	to := others[rnd.IntN(len(others))]
	return fmt.Sprintf("%s to node %d", p.TP(), to), nil, r.ask(ctx, gateway.OpRequest{Kind: cluster.OpTransfer, Topic: p.Topic, Partition: p.Partition, Node: to})
}

// move places a partition's replicas anew.
func (r *run) move(ctx context.Context, rnd *rand.Rand) (string, func() error, error) {
	var nodes []struct {
		Node int32 `json:"node"`
	}
	if err := r.call(ctx, "GET", "/nodes", nil, &nodes); err != nil {
		return "", nil, err
	}
	placed, err := r.placed(ctx)
	if err != nil {
		return "", nil, err
	}
	if len(placed) == 0 || len(nodes) == 0 {
		return "", nil, errNotNow
	}
	p := placed[rnd.IntN(len(placed))]
	var replicas []int32
	for _, i := range rnd.Perm(len(nodes)) {
		if len(replicas) < max(len(p.Replicas), 1) {
			replicas = append(replicas, nodes[i].Node)
		}
	}
	return fmt.Sprintf("%s to nodes %v", p.TP(), replicas), nil, r.ask(ctx, gateway.OpRequest{Kind: cluster.OpMove, Topic: p.Topic, Partition: p.Partition, Replicas: replicas})
}

// command runs what the user has given, by the shell: with RAFTSMAN_FAULT=begin, and
// with RAFTSMAN_FAULT=end when it is to be undone. RAFTSMAN_RANDOM is a number that
// the seed has chosen, the same for both.
func (r *run) command(ctx context.Context, rnd *rand.Rand) (string, func() error, error) {
	number := rnd.IntN(1 << 30)
	do := func(ctx context.Context, which string) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", r.NemesisCommand)
		cmd.Env = append(os.Environ(), "RAFTSMAN_FAULT="+which, fmt.Sprint("RAFTSMAN_RANDOM=", number))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("--nemesis-command, RAFTSMAN_FAULT=%s: %w: %.300s", which, err, out)
		}
		return nil
	}
	end := func() error { return do(context.WithoutCancel(ctx), "end") }
	return fmt.Sprint("with RAFTSMAN_RANDOM=", number), end, do(ctx, "begin")
}

// dialer makes the clients' connections, and remembers them for disconnect.
type dialer struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
}

type clientConn struct {
	net.Conn
	d *dialer
}

func (c clientConn) Close() error {
	c.d.mu.Lock()
	delete(c.d.conns, c.Conn)
	c.d.mu.Unlock()
	return c.Conn.Close()
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var nd net.Dialer
	c, err := nd.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns[c] = true
	return clientConn{c, d}, nil
}

// disconnect breaks the clients' connections, about half of them.
func (d *dialer) disconnect(_ context.Context, rnd *rand.Rand) (string, func() error, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for c := range d.conns {
		if rnd.IntN(2) == 0 {
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
			n++
		}
	}
	return fmt.Sprint(n, " connections of clients"), nil, nil
}
