package coordinator

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A member that died is not waited for longer because its coordinator has moved,
// whether the next one is told before it has begun or after.
func TestSessionsGoOn(t *testing.T) {
	for name, told := range map[string]string{"before": "before", "after": "after", "never": ""} {
		l := newMemLog()
		at := &clock{now: time.Now()}
		opts := options(l)
		opts.Now = at.read
		c, stop := start(t, opts)
		serves(t, c)
		if _, err := synced(t, c, "g", "", 1); err != nil { // for 30 s
			t.Fatal(err)
		}
		at.pass(25 * time.Second)
		stop()
		at.pass(3 * time.Second)
		sessions, ago := c.Sessions()
		if ago != 3*time.Second || len(sessions) != 1 || sessions[0].Members[0].Left != 5*time.Second {
			t.Fatalf("%v ago: %+v", ago, sessions)
		}
		sessions[0].Members[0].Left -= ago
		l.lead(2)
		opts.Term = 2
		next := New(opts)
		if told == "before" {
			next.Inherit(sessions)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); next.Run(ctx) }()
		serves(t, next)
		members := func() int {
			req := kmsg.NewPtrDescribeGroupsRequest()
			req.Groups = []string{"g"}
			return len(ask(next, req).wait(t).resp.(*kmsg.DescribeGroupsResponse).Groups[0].Members)
		}
		if told == "after" {
			next.Inherit(sessions)
		}
		if n := members(); n != 1 {
			t.Errorf("%s: %d members", name, n)
		}
		at.pass(2100 * time.Millisecond)
		members() // what is due comes after the requests that are there
		if n, want := members(), map[string]int{"": 1}[told]; n != want {
			t.Errorf("told %s: %d members", name, n)
		}
		cancel()
		<-ended
	}
}
