package testetcd

import (
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// Slow stands between clients and an etcd of any kind, and can hold back each of
// its answers for a while, in order.
type Slow struct {
	proxy  *proxy
	url    string
	random atomic.Pointer[delays]
}

type delays struct{ least, most time.Duration }

// NewSlow listens until the test ends, and delays nothing yet. target is etcd's
// URL, http://HOST:PORT.
func NewSlow(t testing.TB, target string) *Slow {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	s := &Slow{}
	for range startAttempts {
		var port int
		if port, err = freePort(map[int]bool{}); err != nil {
			break
		}
		at := local(port)
		if s.proxy, err = newProxy(at.Host, to.Host); err == nil {
			s.url = at.String()
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	s.proxy.answer = s.copy
	t.Cleanup(s.proxy.close)
	return s
}

// URL is where clients connect.
func (s *Slow) URL() string { return s.url }

// Delay holds each answer back for a random time between least and most from now
// on; zero for no longer.
func (s *Slow) Delay(least, most time.Duration) { s.random.Store(&delays{least, most}) }

// held is what came from etcd, and when it is passed on.
type held struct {
	data []byte
	due  time.Time
}

// copy passes answers on when they are due.
func (s *Slow) copy(to io.Writer, from net.Conn) {
	queue := make(chan held, 1024)
	done := make(chan struct{})
	go func() {
		defer close(queue)
		var last time.Time
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if n > 0 {
				if due := time.Now().Add(s.next()); due.After(last) {
					last = due
				}
				select {
				case queue <- held{buf[:n], last}:
				case <-done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() { // the connection is closed by then, which ends the reader
		for range queue {
		}
	}()
	defer from.Close()
	defer close(done)
	for h := range queue {
		timer := time.NewTimer(time.Until(h.due))
		<-timer.C
		if _, err := to.Write(h.data); err != nil {
			return
		}
	}
}

func (s *Slow) next() time.Duration {
	d := s.random.Load()
	if d == nil || d.most <= 0 {
		return 0
	}
	return d.least + rand.N(d.most-d.least+1)
}
