package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// How long commands wait: a person sits in front of them.
const (
	dialTimeout  = 2 * time.Second  // of one broker, which may be dead or stopped
	pingTimeout  = 15 * time.Second // until one of them answers
	adminTimeout = 30 * time.Second // a change: the winner and etcd may be slow
)

// kafkaFlags say how to reach the cluster through the Kafka protocol.
type kafkaFlags struct{ brokers []string }

func (k *kafkaFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&k.brokers, "brokers", []string{"127.0.0.1:9092"},
		"Kafka addresses of one or more nodes, HOST:PORT,... (environment: RAFTSMAN_BROKERS)")
}

// addresses are the brokers of the flag, else of the environment.
func (k *kafkaFlags) addresses(cmd *cobra.Command) ([]string, error) {
	list := k.brokers
	if env := os.Getenv("RAFTSMAN_BROKERS"); env != "" && !cmd.Flags().Changed("brokers") {
		list = strings.Split(env, ",")
	}
	var brokers []string
	for _, b := range list {
		if b = strings.TrimSpace(b); b != "" {
			brokers = append(brokers, b)
		}
	}
	if len(brokers) == 0 {
		return nil, usageError{errors.New("--brokers: no address")}
	}
	return brokers, nil
}

// connect returns a client that has reached a broker.
func (k *kafkaFlags) connect(cmd *cobra.Command, opts ...kgo.Opt) (*kgo.Client, error) {
	brokers, err := k.addresses(cmd)
	if err != nil {
		return nil, err
	}
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.ClientID("raftsman-cli"), kgo.SoftwareNameAndVersion("raftsman", softwareVersion()),
		kgo.DialTimeout(dialTimeout), kgo.RequestTimeoutOverhead(2 * time.Second), kgo.RetryTimeout(adminTimeout),
		kgo.MetadataMinAge(250 * time.Millisecond), kgo.DisableClientMetrics(),
	}, opts...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, usageError{fmt.Errorf("--brokers %s: %w", strings.Join(brokers, ","), err)}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), pingTimeout)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, unreachable(strings.Join(brokers, ","), err)
	}
	return client, nil
}

// unreachable says what to look at when no broker answers.
func unreachable(brokers string, err error) error {
	return fmt.Errorf("can't reach the cluster at %s: %w; is it running? --brokers or RAFTSMAN_BROKERS name the nodes' Kafka addresses; raftsman dev starts a cluster on 127.0.0.1:9092", brokers, err)
}

// softwareVersion is the version as the protocol allows it.
func softwareVersion() string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, version()), ".-")
}

// admin runs f with an administrative client and a limited time.
func (k *kafkaFlags) admin(cmd *cobra.Command, f func(ctx context.Context, adm *kadm.Client) error) error {
	defer waiting(cmd, "the cluster")()
	client, err := k.connect(cmd)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), adminTimeout)
	defer cancel()
	adm := kadm.NewClient(client)
	adm.SetTimeoutMillis(int32((adminTimeout / 4).Milliseconds())) // one broker that hangs leaves time for others
	return f(ctx, adm)
}

// look makes a look of what asks through the Kafka protocol.
func (k *kafkaFlags) look(cmd *cobra.Command, f func(ctx context.Context, adm *kadm.Client) (shown, error)) func() (shown, error) {
	return func() (s shown, err error) {
		err = k.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			s, err = f(ctx, adm)
			return err
		})
		return s, err
	}
}

// topicMetadata describes a topic that must exist.
func topicMetadata(ctx context.Context, adm *kadm.Client, name string) (kadm.TopicDetail, error) {
	m, err := adm.Metadata(ctx, name)
	if err != nil {
		return kadm.TopicDetail{}, fmt.Errorf("ask for topic %q: %w", name, err)
	}
	t, ok := m.Topics[name]
	if !ok {
		return t, unknownTopic(ctx, adm, name)
	}
	return t, topicError(ctx, adm, name, t.Err)
}

// topicError says what is wrong with a topic, or nil.
func topicError(ctx context.Context, adm *kadm.Client, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return unknownTopic(ctx, adm, name)
	}
	return fmt.Errorf("topic %q: %w", name, err)
}

// errNoTopic is in the errors of noTopic.
var errNoTopic = errors.New("does not exist")

// unknownTopic says that there is no such topic, and which one may be meant.
func unknownTopic(ctx context.Context, adm *kadm.Client, name string) error {
	all, _ := adm.ListTopicsWithInternal(ctx) // without them nothing is suggested
	return noTopic(name, all.Names())
}

func noTopic(name string, names []string) error {
	if near := nearestName(name, names); near != "" {
		return fmt.Errorf("topic %q %w; did you mean %q? raftsman topic list shows all", name, errNoTopic, near)
	}
	return fmt.Errorf("topic %q %w; raftsman topic list shows all", name, errNoTopic)
}

// creationTimeout is how long a topic may be unknown after it was asked for: a
// node says so at once, and begins to create it if it does that.
const creationTimeout = time.Second

// ensureTopic returns a topic's number of partitions. A topic that does not
// exist is created if the cluster creates topics by itself.
func ensureTopic(ctx context.Context, client *kgo.Client, name string) (partitions int32, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = true
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(name)
	req.Topics = append(req.Topics, topic)
	for began := time.Now(); ; {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return 0, fmt.Errorf("ask for topic %q: %w", name, err)
		}
		if len(resp.Topics) != 1 {
			return 0, fmt.Errorf("asked for topic %q, got %d topics", name, len(resp.Topics))
		}
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
		switch {
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			if time.Since(began) > creationTimeout {
				return 0, fmt.Errorf("%w, raftsman topic create %s makes it", unknownTopic(ctx, kadm.NewClient(client), name), name)
			}
		case errors.Is(err, kerr.LeaderNotAvailable): // being created
		case err != nil:
			return 0, fmt.Errorf("topic %q: %w", name, err)
		default:
			return int32(len(resp.Topics[0].Partitions)), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("topic %q is being created and has no leader yet: %w", name, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
