package node

import (
	"fmt"
	"slices"
)

// begunAnew refuses to bootstrap a replica of a partition that this node has data
// of already, under another replica id: an assignment was lost and made anew, or
// edited by hand. A replica that was moved away and comes back does not
// bootstrap, and is not refused.
func (r *replicas) begunAnew(id partitionID, replica uint64, initial []uint64) error {
	if !slices.Contains(initial, replica) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.onDisk[replica]; known {
		return nil // it was begun before
	}
	for other, its := range r.onDisk {
		if its.id() == id {
			return fmt.Errorf("replica %d would begin partition %d of topic id %s anew, and this node has replica %d of it, with data: nothing was changed; put the assignment back: raftsman cluster restore-metadata",
				replica, id.index, id.topicID, other)
		}
	}
	return nil
}

// sayOnce says whether a failure of a partition is another one than before.
func (r *replicas) sayOnce(id partitionID, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.told, id)
		return false
	}
	if r.told[id] == err.Error() {
		return false
	}
	if r.told == nil {
		r.told = make(map[partitionID]string)
	}
	r.told[id] = err.Error()
	return true
}
