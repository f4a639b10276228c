package partition

import "sort"

// epochStart is the offset at which a leader epoch (its raft term) begins.
type epochStart struct {
	Epoch int32 `json:"epoch"`
	Start int64 `json:"start"`
}

// epochs is the history of a partition's leaders, ascending. An epoch that
// wrote nothing gives way to the next one at the same offset.
type epochs []epochStart

func (e epochs) begin(epoch int32, start int64) epochs {
	if n := len(e); n > 0 {
		if e[n-1].Epoch >= epoch {
			return e
		}
		if e[n-1].Start == start {
			e = e[:n-1]
		}
	}
	return append(e[:len(e):len(e)], epochStart{epoch, start})
}

// end answers OffsetForLeaderEpoch (KIP-101, KIP-320): the largest epoch that is
// at most the one asked for, and the offset after its last record. Both are -1
// when nothing is known of it.
func (e epochs) end(epoch, current int32, next int64) (int32, int64) {
	if epoch > current || epoch < 0 {
		return -1, -1
	}
	if epoch == current {
		return epoch, next
	}
	i := sort.Search(len(e), func(i int) bool { return e[i].Epoch > epoch })
	if i == len(e) {
		return epoch, next
	}
	if i == 0 {
		return epoch, e[0].Start
	}
	return e[i-1].Epoch, e[i].Start
}

// at returns the epoch of an offset, or -1.
func (e epochs) at(offset int64) int32 {
	i := sort.Search(len(e), func(i int) bool { return e[i].Start > offset })
	if i == 0 {
		return -1
	}
	return e[i-1].Epoch
}

// trim forgets what lies wholly below the log start.
func (e epochs) trim(start int64) epochs {
	for len(e) > 1 && e[1].Start <= start {
		e = e[1:]
	}
	return e
}
