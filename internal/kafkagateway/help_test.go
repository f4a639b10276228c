package kafkagateway_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/kafka"
	"github.com/raftsman/raftsman/internal/kafkagateway"
	"github.com/raftsman/raftsman/internal/testcluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// gateway starts a gateway for a cluster and returns its address.
func gateway(t testing.TB, c *testcluster.Cluster, tune func(*kafkagateway.Options)) (string, *kafkagateway.Gateway) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opts := kafkagateway.Options{
		Listeners: []kafka.Listener{{Name: "default", Net: ln, Advertised: ln.Addr().String()}},
		Seeds:     func(context.Context) ([]string, error) { return c.Brokers(), nil },
		Logger:    testcluster.Logger("gateway"),
	}
	if tune != nil {
		tune(&opts)
	}
	g, err := kafkagateway.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	})
	testetcd.Eventually(t, "the gateway to find the nodes", func() bool { return g.Ready() == nil })
	return ln.Addr().String(), g
}

// through makes a client that knows the gateway only.
func through(t testing.TB, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}
