package replication

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// clocked is a throttle on a clock that stands still but for what waits on it.
func clocked(rate int64) (t *throttle, now *time.Time) {
	at := time.Unix(1000, 0)
	t = newThrottle(rate)
	t.now = func() time.Time { return at }
	t.after = func(d time.Duration) <-chan time.Time {
		at = at.Add(d)
		c := make(chan time.Time, 1)
		c <- at
		return c
	}
	return t, &at
}

// TestThrottle: over any stretch no more than the rate passes, whatever the
// sizes, and a pause is not saved up.
func TestThrottle(t *testing.T) {
	const rate = 10 << 20
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 1))
	th, now := clocked(rate)
	for range 20 {
		begin, bytes := *now, 0
		for range 1 + r.IntN(200) {
			n := 1 + r.IntN(fetchBytes)
			if err := th.wait(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			bytes += n
		}
		took, want := now.Sub(begin), time.Duration(float64(bytes)/rate*float64(time.Second))
		if diff := took - want; diff < -time.Millisecond || diff > time.Millisecond {
			t.Fatalf("%d bytes took %v, want %v", bytes, took, want)
		}
		*now = now.Add(time.Duration(r.IntN(5000)) * time.Millisecond)
	}
}

func TestThrottleIsShared(t *testing.T) {
	th, _ := clocked(1 << 20)
	if a, b := th.reserve(1<<20), th.reserve(1<<19); a != time.Second || b != 1500*time.Millisecond {
		t.Fatalf("two at once wait %v and %v", a, b)
	}
}

func TestThrottleEnds(t *testing.T) {
	th, _ := clocked(1 << 20)
	th.after = func(time.Duration) <-chan time.Time { return nil }
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cause")
	cancel(cause)
	if err := th.wait(ctx, 1<<20); !errors.Is(err, cause) {
		t.Fatalf("got %v", err)
	}
	if err := newThrottle(-1).wait(t.Context(), 1<<40); err != nil {
		t.Fatal(err)
	}
}

// TestKeepUp: a staging that its share of the rate would never end is given
// twice what is written.
func TestKeepUp(t *testing.T) {
	h := &Host{throttle: newThrottle(100 << 20), places: stagePlaces{max: 2}}
	s := &stageSender{g: &Group{host: h}, throttle: h.throttle}
	if err := h.places.take(t.Context(), stagePlace{1, 1}); err != nil {
		t.Fatal(err)
	}
	s.keepUp(40<<20, time.Second)
	if s.throttle != h.throttle {
		t.Errorf("a slow writer's staging is sent at %d bytes per second", s.throttle.rate)
	}
	if err := h.places.take(t.Context(), stagePlace{2, 1}); err != nil {
		t.Fatal(err)
	}
	s.keepUp(40<<20, time.Second) // the share is half now
	if s.throttle.rate != 80<<20 {
		t.Errorf("with 40 MiB/s written it is sent at %d bytes per second", s.throttle.rate)
	}
	s.keepUp(1<<20, time.Second)
	if s.throttle != h.throttle {
		t.Errorf("a writer that has slowed down is still sent at %d bytes per second", s.throttle.rate)
	}
}

func TestStagePlaces(t *testing.T) {
	p := stagePlaces{max: 2}
	a, b, c := stagePlace{1, 2}, stagePlace{1, 3}, stagePlace{2, 3}
	now := time.Now()
	take := func(place stagePlace, at time.Time) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		_, ok := p.tryLocked(place, at)
		return ok
	}
	if !take(a, now) || !take(b, now) || take(c, now) || take(a, now) {
		t.Fatal("want two places, and one for each staging")
	}
	p.leave(a, time.Minute) // raft comes back for it
	if take(c, time.Now()) {
		t.Fatal("a place that is kept was given away")
	}
	if !take(a, time.Now()) {
		t.Fatal("a place that was kept is not there")
	}
	p.leave(a, time.Minute)
	if !take(c, time.Now().Add(2*time.Minute)) {
		t.Fatal("a place was kept for ever")
	}
	p.leave(b, 0)
	if !take(a, time.Now()) {
		t.Fatal("a place that was left is not free")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.take(ctx, b); err == nil {
		t.Fatal("a third place was found")
	}
}
