package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/health"
)

// Operator is a cluster as its operators see and change it. The methods that
// change something return when this node sees the change, or soon after; their
// errors are those of cluster.Store.
type Operator interface {
	// View is the metadata as the node knows it. It must not block.
	View() *cluster.View
	// Snapshot is that, with what the nodes say of each other. It must not block.
	Snapshot() health.Snapshot
	// Health says what is wrong. It must not block.
	Health() health.Report
	CreateOp(ctx context.Context, id string, op cluster.Op) error
	CancelOp(ctx context.Context, id string) error
	SetRebalance(ctx context.Context, paused bool) error
}

// Operation is an operation with its id.
type Operation struct {
	ID string `json:"id"`
	cluster.Op
}

// OpRequest is the body of POST /ops: what an operator may say of an operation.
type OpRequest struct {
	ID        string         `json:"id,omitempty"` // default: one is made up
	Kind      cluster.OpKind `json:"kind"`
	Node      int32          `json:"node,omitempty"`
	Topic     string         `json:"topic,omitempty"`
	Partition int32          `json:"partition,omitempty"`
	Replicas  []int32        `json:"replicas,omitempty"`
	Force     bool           `json:"force,omitempty"`
}

// Switch is the body of PUT /rebalance, and the answer.
type Switch struct {
	Paused *bool `json:"paused"`
}

// NewOpID makes up an id that says what the operation is about.
func NewOpID(op cluster.Op) string {
	about := strconv.Itoa(int(op.Node))
	if op.Kind == cluster.OpMove || op.Kind == cluster.OpTransfer {
		about = fmt.Sprintf("%.60s-%d", op.Topic, op.Partition)
	}
	return fmt.Sprintf("%.20s-%s-%.8s", op.Kind, about, uuid.NewString())
}

// operator adds the paths of Options.Operator.
func operator(mux *http.ServeMux, opts Options) {
	o := opts.Operator
	read := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) { answer(w, r, opts, http.StatusOK, f) })
	}
	write := func(pattern string, status int, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer(w, r, opts, status, func(r *http.Request) (any, error) {
				if err := byProgram(r); err != nil {
					return nil, err
				}
				return f(r)
			})
		})
	}
	read("/health.json", func(*http.Request) (any, error) { return o.Health(), nil })
	read("/nodes", func(*http.Request) (any, error) { return o.Snapshot().Nodes, nil })
	read("/partitions", func(r *http.Request) (any, error) { return partitions(r, o.Snapshot()) })
	read("/ops", func(*http.Request) (any, error) { return operations(o.View()), nil })
	read("/ops/{id}", func(r *http.Request) (any, error) { return operation(o.View(), r.PathValue("id")) })
	read("/rebalance", func(*http.Request) (any, error) {
		return Switch{Paused: &o.View().Rebalance.Paused}, nil
	})
	write("POST /ops", http.StatusCreated, func(r *http.Request) (any, error) { return create(r, o) })
	write("POST /ops/{id}/cancel", http.StatusOK, func(r *http.Request) (any, error) { return cancel(r, o) })
	write("PUT /rebalance", http.StatusOK, func(r *http.Request) (any, error) {
		var want Switch
		if err := body(r, &want); err != nil {
			return nil, err
		}
		if want.Paused == nil {
			return nil, refusal(http.StatusBadRequest, `the body lacks "paused"`, `send {"paused":true} or {"paused":false}`)
		}
		return want, o.SetRebalance(r.Context(), *want.Paused)
	})
}

func operations(v *cluster.View) []Operation {
	all := make([]Operation, 0, len(v.Ops))
	for _, id := range health.OpIDs(v.Ops) {
		all = append(all, Operation{id, v.Ops[id]})
	}
	return all
}

func operation(v *cluster.View, id string) (any, error) {
	op, ok := v.Ops[id]
	if !ok {
		return nil, fmt.Errorf("operation %.100q: %w", id, cluster.ErrOpUnknown)
	}
	return Operation{id, op}, nil
}

// partitions filters by ?topic= and ?node=.
func partitions(r *http.Request, s health.Snapshot) (any, error) {
	query := r.URL.Query()
	all := s.Partitions
	if topic := query.Get("topic"); topic != "" {
		if _, ok := s.View.Topics[topic]; !ok {
			return nil, fmt.Errorf("topic %.100q: %w", topic, cluster.ErrTopicUnknown)
		}
		all = slices.DeleteFunc(slices.Clone(all), func(p health.Partition) bool { return p.Topic != topic })
	}
	if text := query.Get("node"); text != "" {
		node, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, refusal(http.StatusBadRequest, fmt.Sprintf("node %.20q is not a number", text), "see /nodes")
		}
		all = slices.DeleteFunc(slices.Clone(all), func(p health.Partition) bool { return !slices.Contains(p.Replicas, int32(node)) })
	}
	return all, nil
}

func create(r *http.Request, o Operator) (any, error) {
	var req OpRequest
	if err := body(r, &req); err != nil {
		return nil, err
	}
	op := cluster.Op{
		Kind: req.Kind, Node: req.Node, Topic: req.Topic, Partition: req.Partition, Replicas: req.Replicas, Force: req.Force,
	}
	if err := op.Sensible(); err != nil {
		return nil, refusal(http.StatusBadRequest, err.Error(), "see docs/operations/nodes.md for what each kind needs")
	}
	id := req.ID
	if id == "" {
		id = NewOpID(op)
	}
	if err := cluster.ValidateOpID(id); err != nil {
		return nil, refusal(http.StatusBadRequest, err.Error(), `leave "id" out to have one made`)
	}
	if err := o.CreateOp(r.Context(), id, op); err != nil {
		return nil, err
	}
	if seen, ok := o.View().Ops[id]; ok {
		return Operation{id, seen}, nil
	}
	op.State = cluster.OpPending
	return Operation{id, op}, nil
}

func cancel(r *http.Request, o Operator) (any, error) {
	id := r.PathValue("id")
	if err := o.CancelOp(r.Context(), id); err != nil {
		return nil, err
	}
	found, err := operation(o.View(), id)
	if errors.Is(err, cluster.ErrOpUnknown) { // its key has just gone
		return Operation{ID: id, Op: cluster.Op{Cancel: true}}, nil
	}
	return found, err
}
