package httpgateway

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	adminDial  = 2 * time.Second
	adminRetry = 8 * time.Second // of what the cluster may be able to answer soon
)

// admin asks for what others have: groups of their coordinators, offsets of
// partitions' leaders.
type admin struct {
	*kadm.Client
	kgo *kgo.Client
}

func newAdmin(self string, own func() net.Conn) (*admin, error) {
	dialer := net.Dialer{Timeout: adminDial}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(self), kgo.ClientID("http"),
		kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == self {
				return own(), nil
			}
			return dialer.DialContext(ctx, network, addr)
		}),
		kgo.RetryTimeout(adminRetry), kgo.RequestTimeoutOverhead(5*time.Second),
		kgo.MetadataMinAge(100*time.Millisecond), kgo.DisableClientMetrics(),
		kgo.RetryBackoffFn(func(n int) time.Duration { return min(time.Second, 50*time.Millisecond<<min(n, 5)) }),
	)
	if err != nil {
		return nil, fmt.Errorf("Kafka client of the HTTP gateway: %w", err)
	}
	return &admin{kadm.NewClient(client), client}, nil
}

func (a *admin) close() { a.kgo.Close() }
