package dashboard

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func testKafka() *kafkaSide { return newKafkaSide(func() []string { return nil }, time.Now) }

func TestSameQuestionIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, asked := testKafka(), atomic.Int32{}
		q := func(context.Context, *kafkaSide) (any, error) {
			asked.Add(1)
			time.Sleep(100 * time.Millisecond)
			return "answer", nil
		}
		for range 2 {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if v, err := k.ask(t.Context(), "q", q); v != "answer" || err != nil {
						t.Errorf("got %v, %v", v, err)
					}
				})
			}
			wg.Wait()
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(keptFor)
		if _, err := k.ask(t.Context(), "q", q); err != nil || asked.Load() != 2 {
			t.Errorf("after a while asked %d times, %v", asked.Load(), err)
		}
	})
}

// One who leaves takes no answer from those who stay.
func TestOneWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := testKafka()
		q := func(ctx context.Context, _ *kafkaSide) (any, error) {
			select {
			case <-time.After(time.Second):
				return "answer", nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := k.ask(ctx, "q", q); !errors.Is(err, context.Canceled) {
				t.Errorf("who left got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if v, err := k.ask(t.Context(), "q", q); v != "answer" {
				t.Errorf("who stayed got %v, %v", v, err)
			}
		})
		synctest.Wait()
		leave()
		wg.Wait()
	})
}

func TestQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := testKafka()
		var now, most atomic.Int32
		q := func(ctx context.Context, _ *kafkaSide) (any, error) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			<-ctx.Done() // a cluster that does not answer
			return nil, ctx.Err()
		}
		var wg sync.WaitGroup
		var refused, late atomic.Int32
		for i := range maxKept + 10 {
			wg.Go(func() {
				_, err := k.ask(t.Context(), strings.Repeat("q", i+1), q)
				switch {
				case err == nil:
					t.Error("an answer")
				case strings.Contains(err.Error(), "too much"):
					refused.Add(1)
				case strings.Contains(err.Error(), "within"):
					late.Add(1)
				}
			})
		}
		wg.Wait()
		if most.Load() != askAtOnce || refused.Load() != 10 || late.Load() != maxKept {
			t.Errorf("%d at once, %d refused, %d late", most.Load(), refused.Load(), late.Load())
		}
		time.Sleep(time.Minute)
		if _, err := k.ask(t.Context(), "q", func(context.Context, *kafkaSide) (any, error) { return 1, nil }); err != nil || len(k.kept) != 1 {
			t.Errorf("later: %v, %d kept", err, len(k.kept))
		}
	})
}

func TestShow(t *testing.T) {
	if show(nil) != nil {
		t.Error("null is shown as something")
	}
	for in, want := range map[string]Text{
		"":                         {},
		"<b>hi</b>":                {Text: "<b>hi</b>", Bytes: 9},
		"\xff\x00":                 {Text: "ff00", Hex: true, Bytes: 2},
		strings.Repeat("x", 3000):  {Text: strings.Repeat("x", maxShown), Bytes: 3000, Cut: true},
		strings.Repeat("€", 1000):  {Text: strings.Repeat("€", maxShown/3), Bytes: 3000, Cut: true},
		strings.Repeat("\xfe", 99): {Text: strings.Repeat("fe", maxBinary), Hex: true, Bytes: 99, Cut: true},
	} {
		if got := show([]byte(in)); *got != want {
			t.Errorf("%.10q: got %+v", in, got)
		}
	}
}

func FuzzShow(f *testing.F) {
	f.Add([]byte("text"))
	f.Add([]byte(strings.Repeat("€", 2000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := show(b)
		switch {
		case b == nil:
			return
		case got.Bytes != len(b), len(got.Text) > maxShown, !utf8.ValidString(got.Text), !got.Cut && !got.Hex && got.Text != string(b):
			t.Errorf("%q: %+v", b, got)
		}
	})
}
