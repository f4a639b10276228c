package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A system is one that is measured: how to start it, and a client of it.
type system struct {
	name    string
	start   func(ctx context.Context, cfg *config, ps *processes) (client, error)
	version func(ctx context.Context, cfg *config) (string, error)
	// inMemory is said of one that keeps nothing on disk and has one node: reading it cold,
	// killing its leader and its idle partitions say nothing.
	inMemory bool
}

var systems = []system{
	{name: "raftsman", start: startRaftsman, version: raftsmanVersion},
	{name: "jetstream", start: func(ctx context.Context, cfg *config, ps *processes) (client, error) {
		return startJetStream(ctx, cfg, ps, "")
	}, version: jetStreamVersion},
	{name: "jetstream-always", start: func(ctx context.Context, cfg *config, ps *processes) (client, error) {
		return startJetStream(ctx, cfg, ps, "always")
	}, version: jetStreamVersion},
	{name: "kfake", start: startKfake, version: kfakeVersion, inMemory: true},
}

// A client talks to a started system. Partitions are numbered from 0, and each has offsets that
// rise by one from message to message. Methods may be called at once.
type client interface {
	// create makes the partitions with as many replicas as there are nodes, and returns when all
	// can be written. Of all partitions together a node keeps about retain bytes.
	create(ctx context.Context, partitions int, retain int64) error
	// producer returns one with connections of its own.
	producer(ctx context.Context, how producing) (producer, error)
	// consume calls f for each message of the partition until f returns false or ctx ends, with
	// connections of its own. The value is not to be kept. The offset costs some clients, and
	// is -1 unless it is asked for.
	consume(ctx context.Context, partition int, how consuming, f func(offset int64, value []byte) bool) error
	// offsets returns the first one that is kept and the next one to be written.
	offsets(ctx context.Context, partition int) (start, end int64, err error)
	// leaders returns for each partition which process, of nodes(), leads it. It fails while a
	// partition has no leader or a replica is behind.
	leaders(ctx context.Context) ([]int, error)
	close()
}

// A message is on its way from send to done.
type message struct {
	partition int
	id        uint64
	sent      time.Time
	value     []byte
	// When it is done:
	offset int64
	err    error

	// The sender's own:
	lane  *lane
	again bool // it failed, and keeps its identity
}

// A producer sends messages.
type producer interface {
	// send takes the message until done was called with it. It blocks only while the client's own
	// buffers are full, which are larger than any window.
	send(m *message)
	close()
}

// producing is what a producer is for.
type producing struct {
	partitions []int
	// done is called once for each message sent, and must not block.
	done func(*message)
	// lossy: servers will be killed, and an answer may be lost with them. A client that does not
	// ask again by itself then calls done with an error.
	lossy bool
}

// consuming is from where a partition is read.
type consuming struct {
	tail    bool // only what comes from now on
	offsets bool // tell offsets
}

// binary returns the path of a built program.
func (cfg *config) binary(name string) string { return filepath.Join(cfg.bin, name) }

// output runs a program that prints its version.
func output(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w (`make bench-peers` builds it)", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
