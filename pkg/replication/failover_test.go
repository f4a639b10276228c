package replication

import (
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	now := time.Now()
	fresh := func(term, index uint64) report { return report{7, term, index, now} }
	old := report{9, 9, 9, now.Add(-2 * reportTTL)}
	former := report{6, 9, 9, now} // from before the lost leader's term
	for name, c := range map[string]struct {
		voters  []uint64
		reports map[uint64]report
		want    uint64
	}{
		"one of three is no majority":               {[]uint64{1, 2, 3}, map[uint64]report{2: fresh(1, 5)}, 0},
		"the longer log":                            {[]uint64{1, 2, 3}, map[uint64]report{2: fresh(1, 5), 3: fresh(1, 6)}, 3},
		"a later term beats a longer log":           {[]uint64{1, 2, 3}, map[uint64]report{2: fresh(2, 5), 3: fresh(1, 6)}, 2},
		"a tie goes to the first":                   {[]uint64{3, 2, 1}, map[uint64]report{2: fresh(1, 5), 3: fresh(1, 5)}, 3},
		"an old report does not count":              {[]uint64{1, 2, 3}, map[uint64]report{2: fresh(1, 5), 3: old}, 0},
		"nor one from before the lost leader":       {[]uint64{1, 2, 3}, map[uint64]report{2: fresh(1, 5), 3: former}, 0},
		"three of five":                             {[]uint64{1, 2, 3, 4, 5}, map[uint64]report{2: fresh(1, 5), 3: fresh(1, 5), 5: fresh(1, 7)}, 5},
		"two of four is no majority":                {[]uint64{1, 2, 3, 4}, map[uint64]report{2: fresh(1, 5), 4: fresh(1, 7)}, 0},
		"who is no voter does not count":            {[]uint64{1, 2, 3}, map[uint64]report{2: fresh(1, 5), 4: fresh(1, 9)}, 0},
		"the other of two can't be elected":         {[]uint64{1, 2}, map[uint64]report{2: fresh(1, 5)}, 0},
		"a single voter decides by itself":          {[]uint64{2}, map[uint64]report{2: fresh(1, 5)}, 2},
		"the former leader may be the one":          {[]uint64{1, 2, 3}, map[uint64]report{1: fresh(1, 9), 2: fresh(1, 5)}, 1},
		"no voters are known, nobody is to be sent": {nil, map[uint64]report{1: fresh(1, 9)}, 0},
	} {
		if got := choose(c.voters, c.reports, 7, now); got.replica != c.want {
			t.Errorf("%s: got %d, want %d", name, got.replica, c.want)
		}
	}
}
