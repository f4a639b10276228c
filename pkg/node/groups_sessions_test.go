package node

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/group"
)

// What one coordinator tells reaches the next, less the time that has passed, in
// messages of bounded size that have whole groups.
func TestSessionsMessages(t *testing.T) {
	var known []group.Sessions
	for i := range 5 {
		s := group.Sessions{Group: fmt.Sprint("g", i)}
		for j := range []int{1, maxSessions - 1, 1, 3 * maxSessions, 2}[i] {
			s.Members = append(s.Members, group.Session{Member: fmt.Sprint("m", j), Left: time.Duration(j) * time.Second})
		}
		known = append(known, s)
	}
	msgs := sessionsMessages(partitionID{"T", 7}, 3, known, 1500*time.Millisecond)
	if len(msgs) != 4 { // the first two together, and the last ones each alone
		t.Errorf("%d messages", len(msgs))
	}
	have := map[string]map[string]time.Duration{}
	for _, msg := range msgs {
		var m sessionsMessage
		if err := json.Unmarshal(msg, &m); err != nil {
			t.Fatal(err)
		}
		if m.TopicID != "T" || m.Index != 7 || m.Term != 3 {
			t.Errorf("%+v", m)
		}
		for _, s := range m.sessions() {
			have[s.Group] = map[string]time.Duration{}
			for _, x := range s.Members {
				have[s.Group][x.Member] = x.Left
			}
		}
	}
	for _, s := range known {
		if len(have[s.Group]) != len(s.Members) {
			t.Errorf("%s has %d members, not %d", s.Group, len(have[s.Group]), len(s.Members))
		}
		for _, x := range s.Members {
			if left := have[s.Group][x.Member]; left != max(x.Left-1500*time.Millisecond, 0) {
				t.Fatalf("%s of %s has %v left of %v", x.Member, s.Group, left, x.Left)
			}
		}
	}
	if none := sessionsMessages(partitionID{"T", 7}, 3, nil, 0); none != nil {
		t.Errorf("%d messages about nothing", len(none))
	}
}

// Whatever a message says, no session is below nothing or above what a member asked
// for.
func FuzzSessionsMessage(f *testing.F) {
	f.Add([]byte(`{"topic_id":"T","partition":1,"term":2,"groups":[{"group":"g","left_ms":{"m":-9223372036854775808,"n":9223372036854775807}}]}`))
	f.Add([]byte(`{"groups":[{},{"group":"g"}]}`))
	f.Fuzz(func(t *testing.T, msg []byte) {
		var m sessionsMessage
		if json.Unmarshal(msg, &m) != nil {
			return
		}
		all := m.sessions()
		for _, s := range all {
			for _, x := range s.Members {
				if x.Left < 0 {
					t.Fatalf("%s has %v left", x.Member, x.Left)
				}
			}
		}
		machine := group.New(group.Config{NewMemberID: func(string) string { return "m" }})
		machine.Loaded(time.Unix(1, 0))
		machine.Inherit(time.Unix(2, 0), all)
	})
}
