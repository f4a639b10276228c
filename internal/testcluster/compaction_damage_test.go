package testcluster

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// TestDamageThatOthersCompactedAway: a replica finds a damaged segment when it is to
// compact it, and the other two have done so by then. It takes over what they have.
func TestDamageThatOthersCompactedAway(t *testing.T) {
	const slow = 3 // compacts so slowly that the others are long done
	c := Start(t, 3, func(cfg *node.Config) {
		cfg.WAL = node.WAL{FileSize: 1 << 20, SizeLimit: 8 << 20}
		cfg.UpkeepInterval = 1000 * time.Hour // but for the first moment of a term
		if cfg.NodeID == slow {
			cfg.CompactionRate = 1 << 20
		}
	})
	client := c.Client(kgo.ProducerBatchMaxBytes(150<<10), kgo.ProducerBatchCompression(kgo.NoCompression()))
	text := func(s string) *string { return &s }
	_, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 3, map[string]*string{
		"cleanup.policy": text("compact"), "segment.bytes": text("1048576"), "min.cleanable.dirty.ratio": text("0.01")}, "table")
	if err != nil {
		t.Fatal(err)
	}
	noise := rand.NewChaCha8([32]byte{1})
	for i := range 150 {
		value := make([]byte, 64<<10)
		noise.Read(value)
		key := i % 30
		if i%3 == 0 {
			key = i // the only one with this key
		}
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "table", Key: fmt.Append(nil, key), Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	testetcd.Eventually(t, "segments in files", func() bool { return len(c.logFiles(slow)) > 8 })
	bad := c.logFiles(slow)[6]
	flipBit(t, bad, 500_000, 3)
	// Another leader looks whether something is to be compacted.
	leader := leaderOf(c, client, "table")
	c.Stop(leader)
	c.Restart(leader)
	testetcd.Eventually(t, "the others to have compacted", func() bool {
		return !slices.ContainsFunc([]int32{1, 2}, func(id int32) bool {
			return slices.ContainsFunc(c.logFiles(id), func(name string) bool { return filepath.Base(name) == filepath.Base(bad) })
		})
	})
	testetcd.Eventually(t, "the damaged segment to be replaced", func() bool { return !slices.Contains(c.logFiles(slow), bad) })
	verifyClean(t, c)
}
