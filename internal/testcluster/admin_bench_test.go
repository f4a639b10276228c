package testcluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// withTopics is one node with so many topics of one partition, each led.
func withTopics(b *testing.B, n int) (*Cluster, []string) {
	b.Helper()
	c := Start(b, 1, nil)
	adm := kadm.NewClient(c.Client())
	adm.SetTimeoutMillis(60_000)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("topic-%04d", i)
	}
	made, err := adm.CreateTopics(b.Context(), 1, 1, nil, names...)
	if err == nil {
		err = made.Error()
	}
	if err != nil {
		b.Fatal(err)
	}
	for led := 0; led < n; {
		changed, cancel := context.WithTimeout(b.Context(), time.Minute)
		topics, err := adm.ListTopics(changed)
		cancel()
		if err != nil {
			b.Fatal(err)
		}
		led = 0
		for _, t := range topics {
			if t.Partitions[0].Leader >= 0 {
				led++
			}
		}
	}
	return c, names
}

// BenchmarkAdmin asks one node of a cluster with 2,000 topics: what a client pays
// to learn about all of them, or of one.
func BenchmarkAdmin(b *testing.B) {
	c, names := withTopics(b, 2000)
	client := c.Client()
	metadata := func(names ...string) kmsg.Request {
		req := kmsg.NewPtrMetadataRequest()
		for _, name := range names {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = kmsg.StringPtr(name)
			req.Topics = append(req.Topics, t)
		}
		return req
	}
	configs := func(names ...string) kmsg.Request {
		req := kmsg.NewPtrDescribeConfigsRequest()
		for _, name := range names {
			r := kmsg.NewDescribeConfigsRequestResource()
			r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
			req.Resources = append(req.Resources, r)
		}
		return req
	}
	broker := client.Broker(1)
	for _, c := range []struct {
		name string
		req  kmsg.Request
	}{
		{"Metadata/all", metadata()}, {"Metadata/one", metadata(names[7])},
		{"DescribeConfigs/all", configs(names...)}, {"DescribeConfigs/one", configs(names[7])},
	} {
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
