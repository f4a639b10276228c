package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"text/tabwriter"
)

// TestLayoutIsTabwriters where there is room: scripts have read its tables.
func TestLayoutIsTabwriters(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		var in strings.Builder
		for range rnd.IntN(8) {
			for k := range rnd.IntN(5) {
				if k > 0 {
					in.WriteString("\t")
				}
				in.WriteString(strings.Repeat("ü", rnd.IntN(6)))
			}
			in.WriteString("\n")
		}
		var want bytes.Buffer
		w := tabwriter.NewWriter(&want, 0, 8, columnGap, ' ', 0)
		fmt.Fprint(w, in.String())
		w.Flush()
		var trimmed strings.Builder
		for line := range strings.Lines(want.String()) {
			trimmed.WriteString(strings.TrimRight(line, " \n") + "\n")
		}
		if got := (screen{}).layout(in.String()); got != trimmed.String() {
			t.Fatalf("of %q: got\n%s\nwant\n%s", in.String(), got, trimmed.String())
		}
	}
}

// TestTablesFit: no line is wider than the terminal, and nothing is lost.
func TestTablesFit(t *testing.T) {
	var in bytes.Buffer
	heading(&in, "ID", "WHAT", "STATE", "REASON")
	cells(&in, "move-orders-3-5f3a3d49", "move of orders/3 to 1,2,3", bad("failed"), "orders/3: no replica is in sync yet, and node 7 does not answer")
	cells(&in, "x", "y", warn("waiting"), "-")
	for width := 20; width < 140; width++ {
		s := screen{terminal: true, colour: width%2 == 0, width: width}
		got := s.layout(in.String())
		if (strings.Contains(got, "\x1b")) != s.colour {
			t.Errorf("%d columns: colours are %v in\n%q", width, s.colour, got)
		}
		for line := range strings.Lines(got) {
			if n := visible(strings.TrimSuffix(line, "\n")); n > max(width, 4*narrowColumn+3*columnGap) {
				t.Errorf("a line of %d columns on %d:\n%s", n, width, got)
			}
		}
		for _, word := range []string{"ID", "orders", "failed", "5f3a3d49"} {
			if squeezed := strings.Join(strings.Fields(colours.ReplaceAllString(got, "")), ""); width > 60 && !strings.Contains(squeezed, word) {
				t.Errorf("%d columns: %q is lost in\n%s", width, word, got)
			}
		}
	}
	want := `ID            WHAT         STATE    REASON
move-orders-  move of      failed   orders/3: no
3-5f3a3d49    orders/3 to           replica is in
              1,2,3                 sync yet, and
`
	if got := (screen{width: 53}).layout(in.String()); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestCellsAreHarmless: what a client calls itself neither moves the cursor nor
// makes a column.
func TestCellsAreHarmless(t *testing.T) {
	var in bytes.Buffer
	cells(&in, "a\tb", "\x1b[2Jc\n", bad("\x1b]0;x\a"))
	if got, want := in.String(), `a\x09b`+"\t"+`\x1b[2Jc\x0a`+"\t\x1b[31m"+`\x1b]0;x\x07`+"\x1b[0m\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
