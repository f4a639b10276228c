package node

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A loop that stops is named after turnPatience, the others are not.
func TestAliveNamesTheLoopThatStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{}
		if err := n.Alive(); err != nil {
			t.Errorf("before any loop runs: %v", err)
		}
		n.turns.turned("a", turnPatience)
		n.turns.turned("b", turnPatience)
		time.Sleep(turnPatience) // fake time
		n.turns.turned("b", turnPatience)
		if err := n.Alive(); err != nil {
			t.Errorf("within its time: %v", err)
		}
		time.Sleep(time.Second)
		err := n.Alive()
		if err == nil || !strings.Contains(err.Error(), `"a"`) || strings.Contains(err.Error(), `"b"`) {
			t.Errorf("a has stopped and b turns: %v", err)
		}
		n.turns.turned("a", turnPatience)
		if err := n.Alive(); err != nil {
			t.Errorf("it turns again: %v", err)
		}
	})
}

// While the disk hangs nobody is to blame, and afterwards all have their time.
func TestAliveWhileTheDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{}
		n.turns.turned("a", turnPatience)
		n.stuck.Store(true)
		time.Sleep(10 * turnPatience) // fake time
		if err := n.Alive(); err != nil {
			t.Errorf("the disk hangs: %v", err)
		}
		n.stuck.Store(false)
		time.Sleep(turnPatience)
		if err := n.Alive(); err != nil {
			t.Errorf("the disk answers again: %v", err)
		}
		time.Sleep(time.Second)
		if err := n.Alive(); err == nil {
			t.Error("the loop has not turned since the disk answers")
		}
	})
}
