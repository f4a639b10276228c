package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// OpKind is what an operator asks for.
type OpKind string

// Kinds of operations.
const (
	OpDrain        OpKind = "drain"        // lead nothing on a node, and place nothing there
	OpUndrain      OpKind = "undrain"      // the end of drain and of decommission
	OpDecommission OpKind = "decommission" // move everything off a node
	OpMove         OpKind = "move"         // a partition's replicas to the given nodes
	OpTransfer     OpKind = "transfer"     // a partition's leadership to a node
)

// OpState is how far an operation is. An operator's own key has none yet.
type OpState string

// States of an operation. The last four are final.
const (
	OpPending   OpState = "pending" // the winner has not looked at it yet
	OpRunning   OpState = "running"
	OpDone      OpState = "done"
	OpRefused   OpState = "refused" // nothing was begun, Reason says why
	OpFailed    OpState = "failed"  // it can't be finished any more, Reason says why
	OpCancelled OpState = "cancelled"
)

// Final says that nothing will change any more.
func (s OpState) Final() bool {
	return s == OpDone || s == OpRefused || s == OpFailed || s == OpCancelled
}

// Op is an operator's wish, at ops/<id>. What the operator writes is Kind and
// what it is about; the winner writes the rest back.
type Op struct {
	Kind      OpKind  `json:"kind"`
	Node      int32   `json:"node,omitempty"`      // drain, undrain, decommission; transfer: the new leader
	Topic     string  `json:"topic,omitempty"`     // move, transfer
	Partition int32   `json:"partition,omitempty"` // move, transfer
	Replicas  []int32 `json:"replicas,omitempty"`  // move: nodes, the preferred leader first
	Resize    bool    `json:"resize,omitempty"`    // move: to more or fewer replicas than the topic has
	Patient   bool    `json:"patient,omitempty"`   // move: wait where it would be refused for its risk now
	Force     bool    `json:"force,omitempty"`     // even what would be refused for its risk
	Cancel    bool    `json:"cancel,omitempty"`    // stop, and go back to how it was where that is safe

	State    OpState    `json:"state,omitempty"`
	Reason   string     `json:"reason,omitempty"` // of a refusal or failure, or what is waited for; for people
	Created  *time.Time `json:"created,omitempty"`
	Started  *time.Time `json:"started,omitempty"`
	Finished *time.Time `json:"finished,omitempty"`
	Progress *Progress  `json:"progress,omitempty"`
	// Generation is that of the assignment which a move or transfer wrote.
	Generation int64 `json:"generation,omitempty"`

	CreateRevision int64 `json:"-"`
	ModRevision    int64 `json:"-"`
}

// Progress of an operation: leaderships of a drain or transfer, replicas of a
// decommission or move.
type Progress struct {
	Done       int   `json:"done"`
	Total      int   `json:"total"`
	BytesDone  int64 `json:"bytes_done,omitempty"`
	BytesTotal int64 `json:"bytes_total,omitempty"`
	// EstimateSeconds is how long the rest will take, from now on; 0 if that is
	// not known.
	EstimateSeconds int64 `json:"estimate_seconds,omitempty"`
}

// Fraction is from 0 to 1, by bytes where they are known.
func (p *Progress) Fraction() float64 {
	switch {
	case p == nil:
		return 0
	case p.BytesTotal > 0:
		return float64(p.BytesDone) / float64(p.BytesTotal)
	case p.Total > 0:
		return float64(p.Done) / float64(p.Total)
	}
	return 1
}

// TP is the partition that a move or transfer is about.
func (o *Op) TP() TopicPartition { return TopicPartition{o.Topic, o.Partition} }

func (o *Op) check() error { return nil } // the winner says what is wrong with it, in the key itself

// Sensible says what is wrong with the operation by itself.
func (o *Op) Sensible() error {
	switch o.Kind {
	case OpDrain, OpUndrain, OpDecommission:
		if o.Node < 1 {
			return fmt.Errorf("%s needs \"node\": the number of a node", o.Kind)
		}
	case OpMove, OpTransfer:
		if err := ValidateTopicName(o.Topic); err != nil {
			return fmt.Errorf("%s needs \"topic\": %w", o.Kind, err)
		}
		if o.Partition < 0 {
			return fmt.Errorf("partition %d", o.Partition)
		}
		if o.Kind == OpTransfer {
			if o.Node < 1 {
				return errors.New("transfer needs \"node\": the number of the node that shall lead")
			}
			return nil
		}
		if len(o.Replicas) == 0 || len(o.Replicas) > MaxReplicas {
			return errors.New("move needs \"replicas\": the nodes that shall hold the partition, the preferred leader first")
		}
		for i, n := range o.Replicas {
			if n < 1 || slices.Contains(o.Replicas[:i], n) {
				return fmt.Errorf("replicas %v: each has to be another node", o.Replicas)
			}
		}
	case "":
		return errors.New(`no "kind": drain, undrain, decommission, move or transfer`)
	default:
		return fmt.Errorf("unknown kind %q: drain, undrain, decommission, move and transfer are known", o.Kind)
	}
	return nil
}

// States of a node that an operator wished for.
const (
	WishDrained        = "drained"
	WishDecommissioned = "decommissioned"
)

// NodeWish is what an operator wants of a node, at config/nodes/<node>; it
// outlives the operation that asked for it, and the node's restarts. No key: to
// serve.
type NodeWish struct {
	State string `json:"state"` // WishDrained, WishDecommissioned

	ModRevision int64 `json:"-"`
}

func (w *NodeWish) check() error {
	if w.State != WishDrained && w.State != WishDecommissioned {
		return fmt.Errorf("state %q: %s and %s are known", w.State, WishDrained, WishDecommissioned)
	}
	return nil
}

// Rebalance is the switch of the balancer, at config/rebalance. No key: on.
type Rebalance struct {
	Paused bool `json:"paused"`

	ModRevision int64 `json:"-"`
}

func (*Rebalance) check() error { return nil }

// ValidateOpID allows what makes one part of a key.
func ValidateOpID(id string) error {
	if id == "" || len(id) > 100 || strings.Trim(id, legalNameBytes) != "" {
		return fmt.Errorf("operation id %q: up to 100 letters, digits, '.', '_' and '-' make one", id)
	}
	return nil
}

// NewOp is an operation under an id of its own.
type NewOp struct {
	ID string
	Op Op
}

// CreateOp asks for one operation; see CreateOps.
func (s *Store) CreateOp(ctx context.Context, id string, op Op) error {
	errs, _ := s.CreateOps(ctx, []NewOp{{id, op}})
	return errs[0]
}

// CreateOps asks for operations, and returns the errors in their order and the
// revision from which on a view contains them. Errors: what Sensible says,
// ErrOpExists, ErrFrozen, ErrUnavailable.
func (s *Store) CreateOps(ctx context.Context, ops []NewOp) ([]error, int64) {
	errs, edits, at := make([]error, len(ops)), make([]edit, 0, len(ops)), make([]int, 0, len(ops))
	now := s.now()
	for i, n := range ops {
		err := ValidateOpID(n.ID)
		if err == nil {
			err = n.Op.Sensible()
		}
		if err != nil {
			errs[i] = err
			continue
		}
		op, key := n.Op, s.keys.Op(n.ID)
		op.State, op.Created = OpPending, &now
		edits, at = append(edits, edit{key: key, next: func(kv *mvccpb.KeyValue) ([]clientv3.Op, error) {
			if kv != nil {
				return nil, ErrOpExists
			}
			value, err := Encode(op)
			return []clientv3.Op{clientv3.OpPut(key, string(value))}, err
		}}), append(at, i)
	}
	rev := s.many(ctx, edits, nil)
	for j, i := range at {
		if err := edits[j].err; err != nil {
			errs[i] = fmt.Errorf("ask for %s %s: %w", ops[i].Op.Kind, ops[i].ID, err)
		}
	}
	return errs, rev
}

// CancelOp asks the winner to stop one operation; see CancelOps.
func (s *Store) CancelOp(ctx context.Context, id string) error {
	errs, _ := s.CancelOps(ctx, []string{id})
	return errs[0]
}

// CancelOps asks the winner to stop operations, and returns the errors in their
// order and the revision from which on a view contains that. Errors:
// ErrOpUnknown, ErrOpEnded, ErrFrozen, ErrUnavailable.
func (s *Store) CancelOps(ctx context.Context, ids []string) ([]error, int64) {
	edits := make([]edit, len(ids))
	for i, id := range ids {
		e := &edits[i]
		e.key = s.keys.Op(id)
		e.next = func(kv *mvccpb.KeyValue) ([]clientv3.Op, error) {
			if kv == nil || ValidateOpID(id) != nil {
				return nil, ErrOpUnknown
			}
			op, err := decode(kv.Value, (*Op).check)
			if err != nil {
				return nil, fmt.Errorf("%s makes no sense: %w", kv.Key, err)
			}
			if op.State.Final() {
				return nil, fmt.Errorf("%w: %s", ErrOpEnded, op.State)
			}
			if op.Cancel {
				return nil, nil
			}
			op.Cancel = true
			value, err := Encode(op)
			return []clientv3.Op{clientv3.OpPut(e.key, string(value))}, err
		}
	}
	rev := s.many(ctx, edits, nil)
	return wrapped(edits, "cancel operation", func(i int) string { return ids[i] }), rev
}

// SetRebalance switches the balancer. Errors: ErrFrozen, ErrUnavailable.
func (s *Store) SetRebalance(ctx context.Context, paused bool) error {
	value, err := Encode(Rebalance{Paused: paused})
	if err != nil {
		return err
	}
	if _, err := s.txn(ctx, nil, []clientv3.Op{clientv3.OpPut(s.keys.Rebalance(), string(value))}, nil); err != nil {
		return fmt.Errorf("switch the balancer: %w", err)
	}
	return nil
}
