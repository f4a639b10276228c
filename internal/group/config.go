package group

import (
	"errors"
	"fmt"
	"time"
)

// Config holds Kafka's broker settings for groups. The zero value of a field
// means its default, unless said otherwise.
type Config struct {
	// MinSessionTimeout and MaxSessionTimeout bound what members may ask for
	// (group.min.session.timeout.ms, 6 s; group.max.session.timeout.ms, 30 min).
	MinSessionTimeout, MaxSessionTimeout time.Duration

	// InitialRebalanceDelay is how long the first rebalance of an empty group
	// waits for more members; each one that comes extends it, up to the
	// rebalance timeout (group.initial.rebalance.delay.ms, 3 s). Negative: none.
	InitialRebalanceDelay time.Duration

	// MaxSize is how many members a group may have (group.max.size, no limit).
	MaxSize int

	// MaxOffsetMetadata is how long the metadata of a committed offset may be
	// (offset.metadata.max.bytes, 4096).
	MaxOffsetMetadata int

	// OffsetsRetention is how long offsets outlive the use of their group
	// (offsets.retention.minutes, 7 days). Negative: for ever.
	OffsetsRetention time.Duration

	// OffsetsRetentionCheck is how often offsets are looked at for expiry
	// (offsets.retention.check.interval.ms, 10 min).
	OffsetsRetentionCheck time.Duration

	// NewMemberID makes a member id that was never used, from the client id or,
	// for a static member, the group instance id: "<it>-<UUID>" in Kafka.
	// Required; the machine's one source of randomness.
	NewMemberID func(clientID string) string
}

// WithDefaults returns the configuration with the defaults filled in.
func (c Config) WithDefaults() Config {
	for _, f := range []struct {
		p   *time.Duration
		def time.Duration
	}{
		{&c.MinSessionTimeout, 6 * time.Second},
		{&c.MaxSessionTimeout, 30 * time.Minute},
		{&c.InitialRebalanceDelay, 3 * time.Second},
		{&c.OffsetsRetention, 7 * 24 * time.Hour},
		{&c.OffsetsRetentionCheck, 10 * time.Minute},
	} {
		if *f.p == 0 {
			*f.p = f.def
		}
	}
	if c.MaxSize == 0 {
		c.MaxSize = 1<<31 - 1
	}
	if c.MaxOffsetMetadata == 0 {
		c.MaxOffsetMetadata = 4096
	}
	return c
}

// Validate says what New would not work with.
func (c Config) Validate() error {
	c = c.WithDefaults()
	switch {
	case c.MinSessionTimeout < 0 || c.MaxSessionTimeout < c.MinSessionTimeout:
		return fmt.Errorf("session timeouts from %v to %v: must be positive and in order", c.MinSessionTimeout, c.MaxSessionTimeout)
	case c.MaxSize < 1:
		return fmt.Errorf("group size of at most %d: must be at least 1", c.MaxSize)
	case c.MaxOffsetMetadata < 0:
		return fmt.Errorf("offset metadata of at most %d bytes: must not be negative", c.MaxOffsetMetadata)
	case c.OffsetsRetentionCheck < 0:
		return fmt.Errorf("offsets are checked every %v: must be positive", c.OffsetsRetentionCheck)
	case c.NewMemberID == nil:
		return errors.New("NewMemberID is missing")
	}
	return nil
}
