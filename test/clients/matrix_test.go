package clients

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raftsman/raftsman/test/clients/agent"
)

// clientNames are the matrix's columns.
var clientNames = []string{"franz-go", "sarama", "kafka-go", "librdkafka", "confluent-python", "python-kafka", "kcat", "rsyslog"}

// feature tries something with a client. ErrNone: the client has no such thing.
type feature func(context.Context, trial) error

type row struct {
	name string
	try  feature
}

// features are the matrix's rows but the last ones, which TestMatrix gets from
// failover.
var features = slices.Concat(
	codecRows("produce", produceCodec), codecRows("consume", consumeCodec),
	[]row{
		{"keys, headers, null values", fields(false)},
		{"the producer's timestamps", fields(true)},
		{"idempotent produce", idempotent},
		{"offsets by time; seek", offsets},
		{"messages up to `max.message.bytes`", large},
		{"topic made by the first produce", autoCreate},
		{"group: members join, leave, die", rebalance("range")},
		{"commit; go on from there", resume},
		{"static members", static},
		{"cooperative rebalancing", rebalance("cooperative")},
		{"create, describe, delete topics", topics},
		{"describe and alter configurations", configs},
		{"create partitions", morePartitions},
		{"delete records", deleteRecords},
		{"list and describe groups", seeGroups},
		{"delete groups", deleteGroup},
	})

const (
	producesThroughKills = "produce, each node killed once"
	consumesThroughKills = "consume in a group, each node killed once"
)

func codecRows(what string, try func(int) feature) (out []row) {
	for i, codec := range codecs {
		out = append(out, row{what + " " + codec, try(i)})
	}
	return out
}

// known are the cells that are `no`, and why. The test fails when one of them
// works, and when another one does not.
var known = map[[2]string]string{}

// cells are the results by feature and client.
type cells struct {
	mu  sync.Mutex
	got map[[2]string]error
}

func (c *cells) set(t testing.TB, feature, client string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[[2]string{feature, client}] = err
	_, expected := known[[2]string{feature, client}]
	switch {
	case errors.Is(err, agent.ErrNone):
	case err != nil && !expected:
		t.Errorf("%s: %s: %v", client, feature, err)
	case err == nil && expected:
		t.Errorf("%s: %s: works, but is said not to", client, feature)
	}
}

// TestMatrix runs every feature with every client and compares the outcome with
// the table in docs/kafka-compatibility.md; with -update it writes the table.
func TestMatrix(t *testing.T) {
	c := startCluster(t, "--auto-create-topics")
	out := &cells{got: map[[2]string]error{}}
	t.Run("alone", func(t *testing.T) {
		for _, client := range clientNames {
			t.Run(client, func(t *testing.T) {
				t.Parallel()
				for i, f := range features {
					name := fmt.Sprintf("%s-%d", client, i)
					began := time.Now()
					ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
					err := f.try(ctx, trial{cluster: c, client: client, topic: name, group: name})
					cancel()
					out.set(t, f.name, client, err)
					t.Logf("%-40s %6.1fs %v", f.name, time.Since(began).Seconds(), err)
				}
			})
		}
	})
	t.Run("failover", func(t *testing.T) {
		for client, r := range failover(t, c) {
			out.set(t, producesThroughKills, client, r.produced)
			out.set(t, consumesThroughKills, client, r.consumed)
		}
	})
	if !t.Failed() || *update {
		checkTable(t, out.table())
	}
}

// table is the matrix in Markdown.
func (c *cells) table() string {
	var b strings.Builder
	b.WriteString("| |")
	for _, client := range clientNames {
		fmt.Fprintf(&b, " %s |", client)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(clientNames)) + "\n")
	var notes []string
	names := []string{}
	for _, f := range features {
		names = append(names, f.name)
	}
	for _, name := range append(names, producesThroughKills, consumesThroughKills) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, client := range clientNames {
			key := [2]string{name, client}
			err, ran := c.got[key]
			switch {
			case !ran:
				b.WriteString(" not run |")
			case err == nil:
				b.WriteString(" yes |")
			case errors.Is(err, agent.ErrNone):
				b.WriteString(" – |")
			default:
				i := slices.Index(notes, known[key])
				if i < 0 {
					i, notes = len(notes), append(notes, known[key])
				}
				fmt.Fprintf(&b, " no (%d) |", i+1)
			}
		}
		b.WriteString("\n")
	}
	for i, n := range notes {
		fmt.Fprintf(&b, "\n%d. %s", i+1, n)
	}
	return b.String()
}
