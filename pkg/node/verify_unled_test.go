package node

import (
	"testing"
	"testing/synctest"
	"time"
)

// A new partition's first leader is waited for, but not for ever: a partition
// whose nodes are gone would slow every Metadata down.
func TestFirstLeaderIsExpectedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v verifier
		a, b := partitionID{"t", 0}, partitionID{"t", 1}
		if !v.expects(a) {
			t.Error("a new partition is given up at once")
		}
		time.Sleep(electionPatience - time.Nanosecond)
		if !v.expects(a) || !v.expects(b) {
			t.Error("given up too soon")
		}
		time.Sleep(time.Nanosecond)
		if v.expects(a) || !v.expects(b) {
			t.Error("only the first one's time is over")
		}
		v.forget(func(id partitionID) bool { return id == b })
		if len(v.unled) != 1 || !v.expects(a) {
			t.Errorf("what does not exist is kept: %v", v.unled)
		}
	})
}
