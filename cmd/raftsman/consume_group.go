package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

// groupCommitTimeout is for the last commit and for leaving.
const groupCommitTimeout = 5 * time.Second

// runGroup reads as a member of a consumer group until it is interrupted or has
// printed enough. What was printed is committed.
func (c *consumeFlags) runGroup(cmd *cobra.Command, topic string, from int64, print printer) error {
	begin := kgo.NewOffset().AtStart()
	switch from {
	case fromBeginning:
	case fromEnd:
		begin = kgo.NewOffset().AtEnd()
	default:
		return usageError{errors.New("--offset with --group: beginning or end, where to start what the group has no offset for")}
	}
	if c.partition >= 0 {
		return usageError{errors.New("--partition with --group: the group assigns the partitions")}
	}
	client, err := c.kafka.connect(cmd, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(c.group), kgo.ConsumeResetOffset(begin),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 256<<10)
	var line []byte
	for left := c.count; ; {
		fetches := client.PollFetches(cmd.Context())
		if cmd.Context().Err() != nil {
			return out.Flush() // how one ends it
		}
		if err := fetchError(fetches); err != nil {
			return errors.Join(err, out.Flush())
		}
		var printed []*kgo.Record
		for it := fetches.RecordIter(); !it.Done() && (c.count == 0 || left > 0); left-- {
			r := it.Next()
			line = print(line[:0], r)
			if _, err := out.Write(line); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			printed = append(printed, r)
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if err := commitPrinted(client, printed); err != nil {
			return fmt.Errorf("commit offsets of group %q: %w", c.group, err)
		}
		client.AllowRebalance()
		if c.count > 0 && left <= 0 {
			return nil
		}
	}
}

// commitPrinted is not interrupted: what was printed should not come again.
func commitPrinted(client *kgo.Client, records []*kgo.Record) error {
	ctx, cancel := context.WithTimeout(context.Background(), groupCommitTimeout)
	defer cancel()
	return client.CommitRecords(ctx, records...)
}
