package torture

import (
	"context"
	"math/rand/v2"
)

// Target is a cluster under torture.
type Target interface {
	brokers() []string
	http() []string
	size() int // number of nodes, as far as is known
	faults() []fault
	// died says which node has ended though nobody ended it.
	died() error
	// Close ends what the target has started.
	Close() error
}

// fault is something that a nemesis can do.
type fault struct {
	name string
	// alone: no other fault at the same time.
	alone bool
	// begin does it, to somebody that rnd chooses. end undoes it; nil: nothing is to
	// be undone. Neither waits until the cluster is well again. A fault that makes no
	// sense now returns errNotNow.
	begin func(ctx context.Context, rnd *rand.Rand) (what string, end func() error, err error)
}

// remote is a cluster that runs somewhere.
type remote struct {
	kafka, web []string
	nodes      int
}

// Remote is a running cluster.
func Remote(brokers, http []string, nodes int) Target {
	return &remote{brokers, http, nodes}
}

func (t *remote) brokers() []string { return t.kafka }
func (t *remote) http() []string    { return t.web }
func (t *remote) size() int         { return t.nodes }
func (t *remote) faults() []fault   { return nil }
func (t *remote) died() error       { return nil }
func (t *remote) Close() error      { return nil }
