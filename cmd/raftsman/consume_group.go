package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// groupCommitTimeout is for the last commit and for leaving.
const groupCommitTimeout = 5 * time.Second

// runGroup reads as a member of a consumer group until it is interrupted or has
// printed enough. What was printed is committed.
func (c *consumeFlags) runGroup(cmd *cobra.Command, topic string) error {
	switch {
	case len(c.partitions) > 0:
		return usageError{errors.New("--partition with --group: the group assigns the partitions")}
	case c.to != nil:
		return usageError{errors.New("--until with --group: a group goes on until it is interrupted; --max stops it")}
	}
	err := c.kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
		_, err := topicMetadata(ctx, adm, topic)
		return err
	})
	if err != nil {
		return err
	}
	client, err := c.kafka.connect(cmd, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(c.group), kgo.ConsumeResetOffset(c.from.kafka()),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	p := c.printing(cmd)
	return errors.Join(c.copyGroup(cmd.Context(), client, p), p.end())
}

func (c *consumeFlags) copyGroup(ctx context.Context, client *kgo.Client, p *printing) error {
	for enough := false; !enough; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil // how one ends it
		}
		if err := fetchError(fetches); err != nil {
			return err
		}
		var done []*kgo.Record
		for it := fetches.RecordIter(); !it.Done() && !enough; {
			r := it.Next()
			var err error
			if enough, err = p.record(r); err != nil {
				return err
			}
			done = append(done, r)
		}
		if err := p.out.Flush(); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if err := commitPrinted(client, done); err != nil {
			return fmt.Errorf("commit offsets of group %q: %w", c.group, err)
		}
		client.AllowRebalance()
	}
	return nil
}

// kafka is the place as a client of a group begins there.
func (w where) kafka() kgo.Offset {
	switch w.kind {
	case toLatest:
		return kgo.NewOffset().AtEnd()
	case toOffset:
		return kgo.NewOffset().At(w.offset)
	case toTail:
		return kgo.NewOffset().AtEnd().Relative(-w.offset)
	case toTime:
		return kgo.NewOffset().AfterMilli(w.ms)
	}
	return kgo.NewOffset().AtStart()
}

// commitPrinted is not interrupted: what was printed should not come again.
func commitPrinted(client *kgo.Client, records []*kgo.Record) error {
	ctx, cancel := context.WithTimeout(context.Background(), groupCommitTimeout)
	defer cancel()
	return client.CommitRecords(ctx, records...)
}
