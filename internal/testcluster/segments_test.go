package testcluster

import (
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// TestSmallSegments: a topic that wants a segment for each batch gets some hundred,
// the same on all replicas.
func TestSmallSegments(t *testing.T) {
	const writers, each = 8, 300
	c := Start(t, 3, nil)
	adm := kadm.NewClient(c.Client())
	if made, err := adm.CreateTopic(t.Context(), 1, 3, map[string]*string{"segment.bytes": kadm.StringPtr("14")}, "t"); err != nil || made.Err != nil {
		t.Fatal(err, made.Err)
	}
	var wg sync.WaitGroup
	for w := range writers {
		client := c.Client()
		wg.Go(func() {
			for i := range each { // one batch each
				if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: fmt.Append(nil, w, i)}).FirstErr(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	n := len(c.segments(1))
	if n < 256 || n > 600 {
		t.Errorf("%d segments of %d batches", n, writers*each)
	}
	testetcd.Eventually(t, "all replicas to have the same files", func() bool { return same(c.segments(1), c.segments(2), c.segments(3)) })
	if got := configOf(t, adm, "t", "segment.bytes"); *got.Value != "14" {
		t.Errorf("%+v", got)
	}
}
