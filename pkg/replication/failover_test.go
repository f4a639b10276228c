package replication

import (
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	now := time.Now()
	fresh := func(term, index uint64) report { return report{term, index, now} }
	old := report{9, 9, now.Add(-2 * reportTTL)}
	for name, c := range map[string]struct {
		voters  []uint64
		reports map[uint64]report
		want    uint64
	}{
		"one of two is no majority":              {[]uint64{2, 3}, map[uint64]report{2: fresh(1, 5)}, 0},
		"the longer log":                         {[]uint64{2, 3}, map[uint64]report{2: fresh(1, 5), 3: fresh(1, 6)}, 3},
		"a later term beats a longer log":        {[]uint64{2, 3}, map[uint64]report{2: fresh(2, 5), 3: fresh(1, 6)}, 2},
		"a tie goes to the first":                {[]uint64{3, 2}, map[uint64]report{2: fresh(1, 5), 3: fresh(1, 5)}, 3},
		"an old report does not count":           {[]uint64{2, 3}, map[uint64]report{2: fresh(1, 5), 3: old}, 0},
		"three of four":                          {[]uint64{2, 3, 4, 5}, map[uint64]report{2: fresh(1, 5), 3: fresh(1, 5), 5: fresh(1, 7)}, 5},
		"two of four is no majority":             {[]uint64{2, 3, 4, 5}, map[uint64]report{2: fresh(1, 5), 5: fresh(1, 7)}, 0},
		"who is no voter does not count":         {[]uint64{2, 3}, map[uint64]report{2: fresh(1, 5), 4: fresh(1, 9)}, 0},
		"a single other voter decides by itself": {[]uint64{2}, map[uint64]report{2: fresh(1, 5)}, 2},
	} {
		if got := choose(c.voters, c.reports, now); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}
