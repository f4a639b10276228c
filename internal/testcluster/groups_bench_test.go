package testcluster

import (
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// BenchmarkGroups asks a coordinator that has 1,000 groups with committed offsets
// about them.
func BenchmarkGroups(b *testing.B) {
	const groups = 1000
	c := Start(b, 1, nil)
	client := c.Client()
	adm := kadm.NewClient(client)
	if made, err := adm.CreateTopic(b.Context(), 1, 1, nil, "t"); err != nil || made.Err != nil {
		b.Fatal(err, made.Err)
	}
	names := make([]string, groups)
	slots := make(chan struct{}, 32)
	var wg sync.WaitGroup
	for i := range names {
		names[i] = fmt.Sprintf("group-%04d", i)
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var at kadm.Offsets
			at.Add(kadm.Offset{Topic: "t", At: int64(i), LeaderEpoch: -1})
			if err := adm.CommitAllOffsets(b.Context(), names[i], at); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	broker := client.Broker(1)
	list := kmsg.NewPtrListGroupsRequest()
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = names
	one := kmsg.NewPtrDescribeGroupsRequest()
	one.Groups = names[7:8]
	for _, c := range []struct {
		name string
		req  kmsg.Request
	}{{"List", list}, {"Describe/all", describe}, {"Describe/one", one}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := broker.Request(b.Context(), c.req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
