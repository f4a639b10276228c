// Package agent runs Kafka clients in processes of their own, each told by one
// Job what to do and answering with Events, so that every client, whatever its
// language, is driven and killed in the same way.
//
// A job is one line of JSON on the standard input. Each event is one line of
// JSON on the standard output; the last one is Done. The end of the standard
// input tells a job without an end of its own (member, load) to leave properly.
package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrNone says that the client has no such feature.
var ErrNone = errors.New("the client has no such feature")

// Record is a record as a client shows it. A nil Key or Value is Kafka's null.
type Record struct {
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []Header `json:"headers"`
	Time      int64    `json:"time"` // milliseconds since 1970; 0 to produce: now
}

// Header is one header of a record.
type Header struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// Job is what a client shall do. Which fields count depends on Op.
type Job struct {
	Op         string            `json:"op"`
	Brokers    []string          `json:"brokers"`
	Topic      string            `json:"topic"`
	Partition  int32             `json:"partition"`
	Offset     int64             `json:"offset"`
	Count      int               `json:"count"`      // records to read, partitions to have
	Time       int64             `json:"time"`       // milliseconds; -1: the end, -2: the beginning
	Codec      string            `json:"codec"`      // none, gzip, snappy, lz4, zstd; "": none
	Idempotent bool              `json:"idempotent"` //
	MaxBytes   int               `json:"max_bytes"`  // of a message; 0: the client's default
	Records    []Record          `json:"records"`    //
	Config     map[string]string `json:"config"`     // of a topic
	Group      string            `json:"group"`      //
	Instance   string            `json:"instance"`   // of a static member
	Assignor   string            `json:"assignor"`   // range, cooperative; "": range
	Session    int               `json:"session"`    // timeout, milliseconds
	Every      int               `json:"every"`      // milliseconds between a load's records
	First      int               `json:"first"`      // a load's first number
}

// Event is one thing that a job has done or seen.
type Event struct {
	Kind    string            `json:"kind"` // records, committed, acked, assigned, done
	Records []Record          `json:"records,omitempty"`
	Offsets map[int32]int64   `json:"offsets,omitempty"`
	Numbers []int             `json:"numbers,omitempty"`
	Names   []string          `json:"names,omitempty"`
	Config  map[string]string `json:"config,omitempty"`
	Count   int64             `json:"count,omitempty"`
	Error   string            `json:"error,omitempty"`
	None    bool              `json:"none,omitempty"` // ErrNone
}

// Emit sends an event. It may be called by several goroutines.
type Emit func(Event)

// Op does a job until it is done or the context ends, and returns what a Done
// event tells.
type Op func(ctx context.Context, j Job, emit Emit) (Event, error)

// Client is what a client can do, by Job.Op. What is not in it the client can't.
type Client map[string]Op

// Serve does the job that it reads, and returns once the end of the job is told.
func Serve(c Client, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	var j Job
	if err := json.Unmarshal(line, &j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		cancel()
	}()
	var mu sync.Mutex
	enc := json.NewEncoder(out)
	emit := func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(e) // nobody listens any more: the process is about to be killed
	}
	var last Event
	if op := c[j.Op]; op == nil {
		err = ErrNone
	} else {
		last, err = op(ctx, j, emit)
	}
	last.Kind = "done"
	if err != nil {
		last.Error, last.None = err.Error(), errors.Is(err, ErrNone)
	}
	emit(last)
	return nil
}

// Clients are the clients of Go, and those that a Go program drives, by name.
var Clients = map[string]Client{
	"franz-go":   franz,
	"sarama":     saramaClient,
	"kafka-go":   segmentio,
	"librdkafka": confluent,
	"kcat":       kcat,
	"rsyslog":    rsyslog,
}
