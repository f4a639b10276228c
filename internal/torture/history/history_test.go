package history

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// TestWriteAndRead: what many goroutines write is read in the order in which it
// happened, without the half line of a writer that was killed.
func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.jsonl")
	var want []Event
	w, err := New(path, Header{Seed: 7, Command: "again"}, func(e Event) { want = append(want, e) })
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range int64(50) {
				id := w.Begin(Event{Op: Produce, Client: "p", N: n})
				w.End(id, Event{Is: OK, Offset: n, Runs: []Run{{At: 3, Epoch: 1, Records: []Record{{"a/b", 4}}}}})
			}
			w.Note(Event{Op: Lead, Term: 3})
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(path, Header{}, nil); err == nil {
		t.Error("a history was written over")
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(whole, []byte(`{"t":1,"i`)...), 0o644); err != nil {
		t.Fatal(err)
	}
	var got []Event
	h, err := ScanFile(path, func(e Event) { got = append(got, e) })
	if err != nil {
		t.Fatal(err)
	}
	if h.Seed != 7 || h.Command != "again" || h.Version != Version {
		t.Errorf("header %+v", h)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %d events, wrote %d, or others", len(got), len(want))
	}
	for i := 1; i < len(got); i++ {
		if got[i].T < got[i-1].T {
			t.Fatalf("event %d is earlier than the one above it", i)
		}
	}
}

func TestNoHistory(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "lacks a first line"},
		{"hello\n", "says no version"},
		{"{}\n", "says no version"},
		{`{"version":99}` + "\n", "version 99"},
		{`{"version":1}` + "\n{]\n", "line 2"},
		{`{"version":1}` + "\n" + `{"runs":[{"records":["x"]}]}` + "\n", `record "x"`},
	} {
		if _, err := Scan(strings.NewReader(c.text), func(Event) {}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}
