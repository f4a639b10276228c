package picture

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/raftsman/raftsman/internal/torture/check"
	"github.com/raftsman/raftsman/internal/torture/history"
)

// TestDraw draws what is around a lost record.
func TestDraw(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.jsonl")
	checker := check.New()
	w, err := history.New(path, history.Header{}, checker.Add)
	if err != nil {
		t.Fatal(err)
	}
	var all []history.Record
	for n := range int64(300) {
		id := w.Begin(history.Event{Op: history.Produce, Client: "p", Topic: "t", N: n})
		w.End(id, history.Event{Is: history.OK, Offset: n})
		all = append(all, history.Record{Client: "p", N: n})
		id = w.Begin(history.Event{Op: history.Read, Client: "r", Via: history.Leader, Topic: "t", Offset: n})
		w.End(id, history.Event{Is: history.OK, High: n + 1, Runs: []history.Run{{At: n, Records: all[n:]}}})
	}
	id := w.Begin(history.Event{Op: history.Read, Client: "f", Via: history.Final, Topic: "t", Offset: history.FromStart})
	w.End(id, history.Event{Is: history.OK, High: 299, Runs: []history.Run{{Records: all[:299]}}})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	report := checker.Finish()
	if len(report.Violations) != 1 || report.Violations[0].Kind != "lost" {
		t.Fatalf("violations %+v", report.Violations)
	}
	var out bytes.Buffer
	if err := Draw(path, report.Violations[0], &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<html", "append p/299", "high watermark 299", "violation"} {
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("the picture lacks %q", want)
		}
	}
	ops, err := collect(path, report.Violations[0])
	if err != nil {
		t.Fatal(err)
	}
	if n := len(ops); n < 10 || n > maxShown {
		t.Errorf("%d operations are shown", n)
	}
}
