package node

import (
	"errors"
	"testing"
)

// A replica that would bootstrap beside data of its partition is refused; one
// that was begun before, one that joins, and one of another partition are not.
func TestNothingIsBegunBesideData(t *testing.T) {
	id := partitionID{"T", 0}
	r := &replicas{onDisk: map[uint64]replicaFile{7: {TopicID: "T"}, 8: {TopicID: "T", Index: 1}}}
	for _, tt := range []struct {
		name    string
		id      partitionID
		replica uint64
		initial []uint64
		refused bool
	}{
		{"beside data", id, 90, []uint64{90, 91}, true},
		{"begun before", id, 7, []uint64{7, 9}, false},
		{"moved away and back", id, 90, []uint64{7, 9}, false},
		{"another partition", partitionID{"T", 2}, 90, []uint64{90}, false},
		{"a topic of the same name", partitionID{"U", 0}, 90, []uint64{90}, false},
	} {
		if err := r.begunAnew(tt.id, tt.replica, tt.initial); (err != nil) != tt.refused {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestFailureIsSaidOnce(t *testing.T) {
	r, id := &replicas{}, partitionID{"T", 0}
	for i, tt := range []struct {
		err  error
		want bool
	}{{errors.New("a"), true}, {errors.New("a"), false}, {errors.New("b"), true}, {nil, false}, {errors.New("b"), true}} {
		if got := r.sayOnce(id, tt.err); got != tt.want {
			t.Errorf("%d: %v is said: %v", i, tt.err, got)
		}
	}
}
