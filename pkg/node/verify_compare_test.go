package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/seglog"
)

// says makes a replica's list of batches of ten records each: "0 10* 30" has
// batches at offsets 0, 10 and 30, that at 10 with other bytes. "!10-29" is damage.
func says(t *testing.T, node int32, text string) compared {
	t.Helper()
	c := compared{replica: cluster.Replica{Node: node, ID: 10 * uint64(node)}}
	pos := int64(0)
	for word := range strings.FieldsSeq(text) {
		if rest, ok := strings.CutPrefix(word, "!"); ok {
			d := seglog.Damage{File: "f", Pos: pos, Reason: "bad"}
			if _, err := fmt.Sscanf(rest, "%d-%d", &d.Offset, &d.Until); err != nil {
				t.Fatal(err)
			}
			d.Until++
			pos += 100 * (d.Until - d.Offset) / 10
			c.digest.Damage = append(c.digest.Damage, d)
			continue
		}
		number, other := strings.CutSuffix(word, "*")
		b := seglog.BatchDigest{File: "f", Pos: pos, Bytes: 100}
		if _, err := fmt.Sscan(number, &b.Offset); err != nil {
			t.Fatal(err)
		}
		if b.Last, b.CRC = b.Offset+9, 1; other {
			b.CRC = 2
		}
		pos += 100
		c.digest.List = append(c.digest.List, b)
	}
	return c
}

// TestDifferences compares lists of three replicas, a case a line: kind, first
// and last offset, and each copy's state and place in the file.
func TestDifferences(t *testing.T) {
	for _, line := range []string{
		"0 10 20   | 0 10 20    | 0 10 20       → ",
		"0 10 20   | 0 !10-19 20 | 0 10 20      → damage 10-19 intact@100 damaged@100 intact@100",
		"0 10 20   | 0 10* 20   | 0 10 20       → divergence 10-19 intact@100 intact@100 intact@100",
		"0 10 20   | 0 20       | 0 10 20       → divergence 10-19 intact@100 missing@100 intact@100",
		"0 10 20 30 | 0 !10-29 30 | 0 10 20 30  → damage 10-29 intact@100 damaged@100 intact@100",
		"0 10 20 30 | 0 !10-29 30 | 0 10 20* 30 → damage 10-19 intact@100 damaged@100 intact@100; divergence 20-29 intact@200 damaged@100 intact@200",
		"0 !10-19  | 0 !10-19   | 0 !10-19      → damage 10-19 damaged@100 damaged@100 damaged@100",
		"!0-9 10   | 0 10       | 0 !10-19      → damage 0-9 damaged@0 intact@0 intact@0; damage 10-19 intact@100 intact@100 damaged@100",
		"0 10      | 0          | 0 10*         → divergence 10-19 intact@100 missing@100 intact@100",
	} {
		input, want, _ := strings.Cut(line, "→")
		var all []compared
		for i, text := range strings.Split(input, "|") {
			all = append(all, says(t, int32(i+1), text))
		}
		var got []string
		for _, d := range differences(all) {
			text := fmt.Sprintf("%s %d-%d", d.Kind, d.Offset, d.Last)
			for _, c := range d.Copies {
				text += fmt.Sprintf(" %s@%d", c.State, c.Pos)
			}
			got = append(got, text)
		}
		if g := strings.Join(got, "; "); g != strings.TrimSpace(want) {
			t.Errorf("%s\n got %s", line, g)
		}
	}
}
