package dashboard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	askTimeout = 5 * time.Second
	askAtOnce  = 4
	keptFor    = time.Second // an answer, for others who ask the same
	maxKept    = 64
)

// question is something that the Kafka protocol answers.
type question func(ctx context.Context, k *kafkaSide) (any, error)

// unknownError says that what was asked about does not exist.
type unknownError struct{ error }

// kafkaSide asks the cluster as a Kafka client does.
type kafkaSide struct {
	brokers func() []string
	now     func() time.Time
	places  chan struct{}

	mu     sync.Mutex
	closed bool
	client *kgo.Client // nil until it is needed
	kept   map[string]*kept
}

// kept is an answer, or one that somebody is asking for.
type kept struct {
	ready chan struct{} // closed when there is one
	value any
	err   error
	until time.Time
}

func newKafkaSide(brokers func() []string, now func() time.Time) *kafkaSide {
	return &kafkaSide{brokers: brokers, now: now, places: make(chan struct{}, askAtOnce), kept: make(map[string]*kept)}
}

func (k *kafkaSide) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.client != nil {
		k.client.Close()
	}
}

// ask answers a question, once for all who ask it at about the same time.
func (k *kafkaSide) ask(ctx context.Context, key string, q question) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for {
		k.mu.Lock()
		a := k.kept[key]
		if a == nil || finished(a) && !k.now().Before(a.until) {
			k.forgetLocked()
			if len(k.kept) >= maxKept {
				k.mu.Unlock()
				return nil, errors.New("too much is asked of this node's dashboard at once")
			}
			a = &kept{ready: make(chan struct{})}
			k.kept[key] = a
			k.mu.Unlock()
			return k.find(ctx, key, a, q)
		}
		k.mu.Unlock()
		select {
		case <-a.ready:
			if !errors.Is(a.err, context.Canceled) { // else the one who asked has left
				return a.value, a.err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("no answer within %v", askTimeout)
		}
	}
}

func finished(a *kept) bool {
	select {
	case <-a.ready:
		return true
	default:
		return false
	}
}

// forgetLocked drops what is too old.
func (k *kafkaSide) forgetLocked() {
	now := k.now()
	for key, a := range k.kept {
		if finished(a) && !now.Before(a.until) {
			delete(k.kept, key)
		}
	}
}

// find asks for an answer and keeps it: the longer, the longer it took.
func (k *kafkaSide) find(ctx context.Context, key string, a *kept, q question) (any, error) {
	began := time.Now()
	select {
	case k.places <- struct{}{}:
		a.value, a.err = q(ctx, k)
		<-k.places
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	if errors.Is(a.err, context.DeadlineExceeded) {
		a.err = fmt.Errorf("the cluster did not answer within %v: %w", askTimeout, a.err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	a.until = k.now().Add(max(keptFor, 2*time.Since(began)))
	if errors.Is(a.err, context.Canceled) {
		delete(k.kept, key)
	}
	close(a.ready)
	return a.value, a.err
}

// options are those of every client.
func (k *kafkaSide) options(more ...kgo.Opt) ([]kgo.Opt, error) {
	brokers := k.brokers()
	if len(brokers) == 0 {
		return nil, errors.New("this node knows no Kafka address of the cluster")
	}
	return append([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.ClientID("raftsman-dashboard"), kgo.DisableClientMetrics(),
		kgo.DialTimeout(time.Second), kgo.RequestTimeoutOverhead(2 * time.Second), kgo.RetryTimeout(askTimeout),
		kgo.MetadataMinAge(250 * time.Millisecond), kgo.ConnIdleTimeout(20 * time.Second),
	}, more...), nil
}

// admin returns the client for everything but records.
func (k *kafkaSide) admin() (*kadm.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, errors.New("the node is stopping")
	}
	if k.client == nil {
		opts, err := k.options()
		if err != nil {
			return nil, err
		}
		if k.client, err = kgo.NewClient(opts...); err != nil {
			return nil, fmt.Errorf("make a Kafka client: %w", err)
		}
	}
	adm := kadm.NewClient(k.client)
	adm.SetTimeoutMillis(int32((askTimeout / 2).Milliseconds()))
	return adm, nil
}
