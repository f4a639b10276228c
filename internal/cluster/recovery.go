package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Recovery is the note in an assignment that an operator had the partition
// begin anew from one replica, since a majority of its replicas was lost. It
// stays for good.
type Recovery struct {
	From uint64 `json:"from"` // the replica that survived
	Into uint64 `json:"into"` // its data's new id, on the same node
	// GivenUp are all replicas of the group as it was, From too, and those of
	// recoveries before: none of them is opened again.
	GivenUp   []uint64 `json:"given_up"`
	Destroyed []int32  `json:"destroyed"` // nodes, by what the operator said
	// Term is below all terms of the new group and above those that anybody
	// left has heard of.
	Term          uint64    `json:"term"`
	LastIndex     uint64    `json:"last_index"`     // of the survivor's log
	HighWatermark int64     `json:"high_watermark"` // that the survivor knew of
	At            time.Time `json:"at"`
}

// IsGivenUp says whether a replica belongs to a group that was given up.
func (a Assignment) IsGivenUp(replica uint64) bool {
	return a.Recovered != nil && slices.Contains(a.Recovered.GivenUp, replica)
}

// maxGivenUp bounds what a note keeps of earlier recoveries.
const maxGivenUp = 10 * MaxReplicas

func (r *Recovery) check(replicas []Replica) error {
	switch {
	case r.From < 1 || r.Into < 1 || r.Term < 1:
		return fmt.Errorf("from %d, into %d, term %d", r.From, r.Into, r.Term)
	case len(r.GivenUp) > maxGivenUp:
		return fmt.Errorf("%d given up replicas are too many", len(r.GivenUp))
	case !slices.Contains(r.GivenUp, r.From):
		return errors.New("the survivor is not among the given up replicas")
	case slices.Contains(r.GivenUp, r.Into):
		return errors.New("the new id is among the given up replicas")
	}
	for _, rep := range replicas {
		if slices.Contains(r.GivenUp, rep.ID) {
			return fmt.Errorf("replica %d is given up and in use", rep.ID)
		}
	}
	return nil
}

// Recover writes the assignment of a recovery, a Replace. registered are the
// revisions of nodes' keys that it was decided upon, 0 for none: a node that has
// registered since makes it fail. The winner need not exist: whoever decided it
// names what it saw. Errors: ErrConflict when anything is not as it was seen,
// ErrFrozen, ErrUnavailable.
func (s *Store) Recover(ctx context.Context, c Change, registered map[int32]int64) error {
	fail := func(err error) error { return fmt.Errorf("write the recovery of %s: %w", c.TP, err) }
	if err := c.Assignment.check(); err != nil {
		return fail(fmt.Errorf("BUG: %w", err))
	}
	value, err := Encode(c.Assignment)
	if err != nil {
		return fail(err)
	}
	counter, err := Encode(Counter{Next: int64(c.Assignment.maxID()) + 1})
	if err != nil {
		return fail(err)
	}
	key := s.keys.Assignment(c.TP)
	cmps := []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(key), "=", c.Revision),
		clientv3.Compare(clientv3.ModRevision(s.keys.ReplicaIDs()), "=", c.CounterRevision),
	}
	for node, rev := range registered {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(s.keys.Node(node)), "=", rev))
	}
	res, err := s.txn(ctx, cmps, []clientv3.Op{
		clientv3.OpPut(key, string(value)), clientv3.OpPut(s.keys.ReplicaIDs(), string(counter)),
	}, nil)
	switch {
	case err != nil:
		return fail(err)
	case !res.ok:
		return fail(ErrConflict)
	}
	return nil
}
