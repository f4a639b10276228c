package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Recovery is the part of a node that lets a partition begin anew after a
// majority of its replicas was lost. What Refuse makes is for the one who asked.
type Recovery struct {
	// State describes the node's replica of a partition.
	State func(topic string, partition int32) (any, error)
	// Recover acts on an operator's decision, a JSON object.
	Recover func(ctx context.Context, decision []byte) (any, error)
}

// Reasons for a refusal.
const (
	NotFound    = http.StatusNotFound
	Invalid     = http.StatusBadRequest
	Conflict    = http.StatusConflict           // not as things are
	Unavailable = http.StatusServiceUnavailable // try again
)

// Refuse makes an error that is answered with its text and a status.
func Refuse(status int, err error) error { return refusal(status, err.Error(), "") }

// recovery adds the paths of Options.Recovery.
func recovery(mux *http.ServeMux, opts Options) {
	rec := opts.Recovery
	mux.HandleFunc("GET /partition/recover", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, opts, http.StatusOK, func(r *http.Request) (any, error) {
			index, err := strconv.ParseInt(r.URL.Query().Get("partition"), 10, 32)
			if err != nil {
				return nil, refusal(Invalid, "partition: a number is needed", "")
			}
			return rec.State(r.URL.Query().Get("topic"), int32(index))
		})
	})
	mux.HandleFunc("POST /partition/recover", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, opts, http.StatusOK, func(r *http.Request) (any, error) {
			if err := byProgram(r); err != nil {
				return nil, err
			}
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOp))
			if err != nil {
				return nil, refusal(Invalid, fmt.Sprintf("the request can't be read: %v", err), "")
			}
			return rec.Recover(r.Context(), body)
		})
	})
}
