package node

import (
	"slices"
	"sync"
	"testing"
)

// led is who leads a partition, as a test says.
type led struct {
	changes
	mu              sync.Mutex
	here, elsewhere bool
}

func (l *led) known(partitionID) (here, elsewhere bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.here, l.elsewhere
}

func (l *led) set(here, elsewhere bool) {
	l.mu.Lock()
	l.here, l.elsewhere = here, elsewhere
	l.mu.Unlock()
	l.notify()
}

// TestRedirectsWait: answers wait for a leader, leave in order, and say whether it
// is this node; what comes while others wait goes behind them.
func TestRedirectsWait(t *testing.T) {
	for _, here := range []bool{true, false} {
		l := new(led)
		r := redirects{known: l.known, changed: l.wait}
		id := partitionID{"t", 0}
		if r.join(id, func(bool) {}) {
			t.Fatal("joined nobody")
		}
		var (
			mu  sync.Mutex
			got []int
			all sync.WaitGroup
		)
		answer := func(n int) func(bool) {
			all.Add(1)
			return func(led bool) {
				defer all.Done()
				mu.Lock()
				defer mu.Unlock()
				if got = append(got, n); led != here {
					t.Errorf("answer %d was told that this node leads: %v", n, led)
				}
			}
		}
		for n := range 5 {
			r.answer(id, answer(n))
		}
		if !r.join(id, answer(5)) {
			t.Fatal("did not join those that wait")
		}
		mu.Lock()
		early := len(got)
		mu.Unlock()
		if early > 0 {
			t.Fatal("answered while nobody was known to lead")
		}
		l.set(here, !here)
		all.Wait()
		if !slices.Equal(got, []int{0, 1, 2, 3, 4, 5}) {
			t.Fatalf("answers left in the order %v", got)
		}
		r.close()
	}
}

// TestRedirectsAnswerAtOnce where there is a leader to name, and where none comes
// up they do not wait for ever.
func TestRedirectsAnswerAtOnce(t *testing.T) {
	l := &led{elsewhere: true}
	r := redirects{known: l.known, changed: l.wait}
	answered := false
	r.answer(partitionID{"t", 0}, func(bool) { answered = true })
	if !answered {
		t.Fatal("waited though the leader is known")
	}
	l.set(false, false)
	done := make(chan struct{})
	r.answer(partitionID{"t", 0}, func(bool) { close(done) })
	<-done
	r.close()
	r.answer(partitionID{"t", 0}, func(bool) { answered = false })
	if answered {
		t.Fatal("waited after close")
	}
}
