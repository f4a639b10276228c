package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// quick timing for tests on loopback: what they wait for is long beside a stall.
var quick = Timing{
	Interval: 20 * time.Millisecond, Settle: 600 * time.Millisecond, Confirm: 100 * time.Millisecond, Gap: 300 * time.Millisecond,
	Fresh: 500 * time.Millisecond, Gone: 2 * time.Second, Hold: 4 * time.Second,
}

// patient is for those who look for somebody who is there, however busy the machine.
var patient = func() Timing {
	t := quick
	t.Settle = 20 * time.Second
	return t
}()

// onLoopback is a group of its own on loopback.
func onLoopback(t *testing.T, secret string) Options {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0") // a port that nobody has
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return Options{
		Cluster: "default", Group: fmt.Sprintf("239.255.77.77:%d", conn.LocalAddr().(*net.UDPAddr).Port),
		Interface: "lo", Secret: []byte(secret),
	}
}

// paper is a Maker that keeps the books.
type paper struct {
	mu                    sync.Mutex
	made, opened, dropped int
	open                  bool
}

func (p *paper) count(n *int, open bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	*n++
	p.open = open
	return nil
}

func (p *paper) Make(context.Context) error { return p.count(&p.made, false) }
func (p *paper) Open() error                { return p.count(&p.opened, true) }
func (p *paper) Discard() error             { return p.count(&p.dropped, false) }

// answer answers for a cluster until the test ends.
func answer(t *testing.T, opts Options, out Outcome, clusterID string) *Answerer {
	t.Helper()
	a, err := NewAnswerer(opts, out.ID, out.Seq, quick.Interval)
	if err != nil {
		t.Fatal(err)
	}
	a.Serve(clusterID, "127.0.0.1:8080")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { a.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return a
}

func TestThreeLookAtOnce(t *testing.T) {
	opts := onLoopback(t, "swordfish")
	var wg sync.WaitGroup
	outcomes := make(chan Outcome, 3)
	makers := make([]*paper, 3)
	for i := range makers {
		makers[i] = new(paper)
		wg.Go(func() {
			out, err := Look(t.Context(), LookOptions{Options: opts, Timing: quick, Maker: makers[i]})
			if err != nil {
				t.Error(err)
			}
			if out.First {
				answer(t, opts, out, "c1")
			}
			outcomes <- out
		})
	}
	wg.Wait()
	close(outcomes)
	first := 0
	for out := range outcomes {
		if out.First {
			first++
		} else if out.Found.ClusterID != "c1" {
			t.Errorf("found %+v", out.Found)
		}
	}
	if first != 1 {
		t.Errorf("%d first nodes", first)
	}
	open := 0
	for _, m := range makers {
		left := 0
		if m.open {
			left = 1
		}
		open += left
		if m.made != m.dropped+left {
			t.Errorf("%+v: what was made was neither opened nor discarded", m)
		}
	}
	if open != 1 {
		t.Errorf("%d clusters are open", open)
	}
}

func TestNobodyIsThere(t *testing.T) {
	_, err := Look(t.Context(), LookOptions{Options: onLoopback(t, ""), Timing: quick})
	var nobody *NobodyError
	if !errors.As(err, &nobody) || !strings.Contains(err.Error(), "no node answered on 239.255.77.77") {
		t.Errorf("got %v", err)
	}
}

// A directory that belongs to a cluster joins no other and makes none.
func TestOnlyItsOwnCluster(t *testing.T) {
	opts := onLoopback(t, "")
	answer(t, opts, Outcome{}, "another")
	some := quick
	some.Settle = 3 * time.Second
	_, err := Look(t.Context(), LookOptions{Options: opts, Timing: some, Maker: new(paper), Only: "mine"})
	var nobody *NobodyError
	if !errors.As(err, &nobody) || len(nobody.Foreign) != 1 || nobody.Foreign[0].ClusterID != "another" {
		t.Fatalf("got %v", err)
	}
	answer(t, opts, Outcome{}, "mine")
	out, err := Look(t.Context(), LookOptions{Options: opts, Timing: patient, Only: "mine"})
	if err != nil || out.Found.ClusterID != "mine" {
		t.Errorf("got %+v, %v", out, err)
	}
}

// Two clusters of a name are told apart by who looks, and notice each other.
func TestTwoClustersOfOneName(t *testing.T) {
	opts := onLoopback(t, "")
	a, b := answer(t, opts, Outcome{}, "a"), answer(t, opts, Outcome{}, "b")
	_, err := Look(t.Context(), LookOptions{Options: opts, Timing: patient, Maker: new(paper)})
	var several *SeveralError
	if !errors.As(err, &several) || len(several.Found) != 2 {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(a.Others()) == 0 && len(b.Others()) == 0 {
		select {
		case <-ctx.Done():
			t.Fatal("they did not notice each other")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Whoever has another secret is not heard, and keeps others from making a cluster.
func TestAnotherSecret(t *testing.T) {
	opts := onLoopback(t, "one")
	other := opts
	other.Secret = []byte("another")
	answer(t, opts, Outcome{}, "a")
	listening := quick
	listening.Settle = 3 * time.Second
	_, err := Look(t.Context(), LookOptions{Options: other, Timing: listening})
	var nobody *NobodyError
	if !errors.As(err, &nobody) || nobody.Mistrusted == 0 {
		t.Errorf("got %v", err)
	}
	maker := new(paper)
	some, stop := context.WithTimeout(t.Context(), 2*listening.Settle)
	defer stop()
	if _, err := Look(some, LookOptions{Options: other, Timing: listening, Maker: maker}); !errors.Is(err, context.DeadlineExceeded) || maker.made > 0 {
		t.Errorf("got %v and %+v", err, maker)
	}
}

// Answers are bounded for each address and for all.
func TestAnswersAreBounded(t *testing.T) {
	a, err := NewAnswerer(onLoopback(t, ""), "", 0, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	one := net.UDPAddr{IP: net.IPv4(10, 0, 0, 1)}
	if to := one.AddrPort().Addr(); !a.mayAnswer(to, now) || a.mayAnswer(to, now.Add(answerGap/2)) || !a.mayAnswer(to, now.Add(2*answerGap)) {
		t.Error("one address")
	}
	now = now.Add(time.Minute)
	answers := 0
	for i := range 10000 {
		from := net.UDPAddr{IP: net.IPv4(10, 1, byte(i>>8), byte(i))}
		if a.mayAnswer(from.AddrPort().Addr(), now) {
			answers++
		}
	}
	if answers != answerRate || len(a.answered) > maxAsking {
		t.Errorf("%d answers at once, %d addresses", answers, len(a.answered))
	}
	a.forget(now.Add(time.Minute))
	if len(a.answered) != 0 {
		t.Errorf("%d addresses are left", len(a.answered))
	}
}

func TestFetch(t *testing.T) {
	body := `{"cluster":"default","cluster_id":"c1","etcd":["http://10.0.0.1:2379"],"nodes":[{"node":1,"http":"10.0.0.1:8080"}],"more":1}`
	signed := "swordfish"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(HeaderSignature, Sign([]byte(signed), r.Header.Get(HeaderNonce), []byte(body)))
		fmt.Fprint(w, body)
	}))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	for _, tc := range []struct{ secret, body, want string }{
		{"", body, ""},
		{"swordfish", body, ""},
		{"another", body, "did not sign"},
		{"", "nonsense", "no node's"},
		{"", "{}", "names no cluster"},
		{"", `{"cluster":"c","cluster_id":"x"}`, "0 endpoints"},
		{"", `{"cluster":"c","cluster_id":"x","etcd":["file:///etc"]}`, "no endpoint of etcd"},
	} {
		body = tc.body
		c, err := Fetch(t.Context(), addr, []byte(tc.secret))
		switch {
		case tc.want == "" && (err != nil || c.ClusterID != "c1" || len(c.Nodes) != 1):
			t.Errorf("secret %q: got %+v, %v", tc.secret, c, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("secret %q, body %s: got %v, want %q", tc.secret, tc.body, err, tc.want)
		}
	}
}
