package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Refiller is the part of a node that fills empty partitions from a backup. Its
// errors are made by Refuse; Misdirected and Unavailable mean: ask State for the
// leader again.
type Refiller interface {
	State(topic string, partition int32) (RefillState, error)
	Begin(ctx context.Context, r RefillRequest) (RefillState, error)
	// Fill stores record batches at the offsets that they carry.
	Fill(ctx context.Context, topic string, partition int32, token int64, batches []byte) (RefillState, error)
	End(ctx context.Context, r RefillRequest) (RefillState, error)
	// RaiseProducerIDs makes new producers get ids from floor on.
	RaiseProducerIDs(ctx context.Context, floor int64) error
}

// RefillRequest begins and ends the refill of a partition.
type RefillRequest struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Token     int64  `json:"token"` // of the backup, > 0
	// Offset is where the partition begins: of the first batch to come, and at
	// the end the log start.
	Offset int64 `json:"offset"`
	// Next is where it goes on at the end.
	Next int64 `json:"next,omitempty"`
}

// RefillState is a partition as one node sees it.
type RefillState struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Node      int32  `json:"node"`
	// Leader is the node that leads, 0 for none, and LeaderHTTP where to ask it.
	Leader     int32  `json:"leader"`
	LeaderHTTP string `json:"leader_http,omitempty"`
	// Leads says that this node leads; the rest is known only there.
	Leads bool  `json:"leads"`
	Token int64 `json:"token"` // of the refill under way, or 0
	Start int64 `json:"start"`
	Next  int64 `json:"next"`
}

// ProducerFloor is the body of POST /producer-ids/floor.
type ProducerFloor struct {
	Floor int64 `json:"floor"`
}

// Misdirected: this node does not lead the partition.
const Misdirected = http.StatusMisdirectedRequest

const (
	fillPath = "/partition/refill/batches"
	// MaxFill bounds the batches of one request, in bytes: the largest batch that a
	// node can be told to take, and a little.
	MaxFill = 65 << 20
	// fillTimeout is that of such a request: it may come over a slow line.
	fillTimeout = 2 * time.Minute
	// maxFills is how many of them are in memory at a time.
	maxFills = 4
	// FillType is the content type of record batches.
	FillType = "application/octet-stream"
)

// refill adds the paths of Options.Refiller.
func refill(mux *http.ServeMux, opts Options) {
	f := opts.Refiller
	mux.HandleFunc("GET /partition/refill", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, opts, http.StatusOK, func(r *http.Request) (any, error) {
			topic, index, err := partitionOf(r)
			if err != nil {
				return nil, err
			}
			return f.State(topic, index)
		})
	})
	for path, do := range map[string]func(context.Context, RefillRequest) (RefillState, error){
		"POST /partition/refill/begin": f.Begin, "POST /partition/refill/end": f.End,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			answer(w, r, opts, http.StatusOK, func(r *http.Request) (any, error) {
				var req RefillRequest
				if err := errors.Join(byProgram(r), body(r, &req)); err != nil {
					return nil, err
				}
				return do(r.Context(), req)
			})
		})
	}
	places := make(chan struct{}, maxFills)
	mux.HandleFunc("POST "+fillPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, opts, http.StatusOK, func(r *http.Request) (any, error) {
			rc := http.NewResponseController(w)
			until := time.Now().Add(fillTimeout)
			if err := errors.Join(rc.SetReadDeadline(until), rc.SetWriteDeadline(until.Add(writeTimeout))); err != nil {
				return nil, err
			}
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
			return fill(w, r, f)
		})
	})
	mux.HandleFunc("POST /producer-ids/floor", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, opts, http.StatusOK, func(r *http.Request) (any, error) {
			var req ProducerFloor
			if err := errors.Join(byProgram(r), body(r, &req)); err != nil {
				return nil, err
			}
			return req, f.RaiseProducerIDs(r.Context(), req.Floor)
		})
	})
}

func fill(w http.ResponseWriter, r *http.Request, f Refiller) (any, error) {
	if err := byProgramAs(r, FillType); err != nil {
		return nil, err
	}
	topic, index, err := partitionOf(r)
	if err != nil {
		return nil, err
	}
	token, err := strconv.ParseInt(r.URL.Query().Get("token"), 10, 64)
	if err != nil {
		return nil, refusal(Invalid, "token: a number is needed", "")
	}
	batches, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxFill))
	if err != nil {
		return nil, refusal(Invalid, fmt.Sprintf("the batches can't be read: %v", err), "")
	}
	return f.Fill(r.Context(), topic, index, token, batches)
}

// partitionOf reads ?topic= and ?partition=.
func partitionOf(r *http.Request) (topic string, index int32, err error) {
	n, err := strconv.ParseInt(r.URL.Query().Get("partition"), 10, 32)
	if err != nil {
		return "", 0, refusal(Invalid, "partition: a number is needed", "")
	}
	return r.URL.Query().Get("topic"), int32(n), nil
}
