package httpgateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
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
		return nil, fmt.Errorf("make the Kafka client of the HTTP gateway: %w", err)
	}
	return &admin{kadm.NewClient(client), client}, nil
}

// settled asks a group's coordinator again while there is none: the first group has
// the coordinators' topic made, and one that was lost has a successor soon.
func settled[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	deadline := time.Now().Add(adminRetry)
	for {
		v, err := ask()
		switch {
		case err == nil || ctx.Err() != nil || time.Now().After(deadline):
			return v, err
		case !errors.Is(err, kerr.CoordinatorNotAvailable) && !errors.Is(err, kerr.CoordinatorLoadInProgress) && !errors.Is(err, kerr.NotCoordinator):
			return v, err
		}
		pause := time.NewTimer(readAgain)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

func (a *admin) close() { a.kgo.Close() }
