package gateway

import (
	"fmt"
	"net/http"
	"time"
)

// Probes answer load balancers about one node: each is 200 or 503, with a line
// that says why.
type Probes struct {
	// Leader says whether this node is the winner; node is the one that is, 0 for
	// none that is known. It must not block.
	Leader func() (leading bool, node int32)
	// Replica says how many replicas the node holds and how far the worst is behind
	// its leader, or why it does not serve; one further behind than most, unless
	// that is 0, is such a reason. It must not block.
	Replica func(most time.Duration) (replicas int, behind time.Duration, err error)
}

// probe adds a path for GET and HEAD, and OPTIONS, which is what HAProxy asks with
// unless it is told otherwise.
func probe(mux *http.ServeMux, path string, f http.HandlerFunc) {
	mux.HandleFunc("GET "+path, f)
	mux.HandleFunc("OPTIONS "+path, f)
}

func probes(mux *http.ServeMux, p Probes) {
	if p.Leader != nil {
		probe(mux, "/leader", func(w http.ResponseWriter, _ *http.Request) {
			switch leading, node := p.Leader(); {
			case leading:
				text(w, http.StatusOK, "this node is the winner")
			case node > 0:
				text(w, http.StatusServiceUnavailable, fmt.Sprintf("node %d is the winner", node))
			default:
				text(w, http.StatusServiceUnavailable, "no winner is known")
			}
		})
	}
	if p.Replica != nil {
		probe(mux, "/replica", func(w http.ResponseWriter, r *http.Request) { replica(w, r, p) })
	}
}

func replica(w http.ResponseWriter, r *http.Request, p Probes) {
	var most time.Duration
	if lag := r.URL.Query().Get("lag"); lag != "" {
		var err error
		if most, err = time.ParseDuration(lag); err != nil || most < time.Second {
			text(w, http.StatusBadRequest, "lag must be a time of a second or more with its unit, such as 10s or 2m")
			return
		}
	}
	replicas, behind, err := p.Replica(most)
	switch {
	case err != nil:
		text(w, http.StatusServiceUnavailable, err.Error())
	case most > 0:
		text(w, http.StatusOK, fmt.Sprintf("%d replicas, at most %v behind", replicas, behind))
	default:
		text(w, http.StatusOK, fmt.Sprintf("%d replicas", replicas))
	}
}
