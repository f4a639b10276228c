package node

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

// topicConfigs are the topic configurations that do something here, and what
// they may be. Names and meanings are Kafka's.
var topicConfigs = map[string]func(value string) error{
	"cleanup.policy":         oneOf("delete"),
	"compression.type":       oneOf("producer"),
	"max.message.bytes":      between(1, 64<<20),
	"message.timestamp.type": oneOf("CreateTime"),
	"min.insync.replicas":    between(1, 1000),
	"retention.bytes":        between(-1, math.MaxInt64),
	"retention.ms":           between(-1, math.MaxInt64),
	"segment.bytes":          between(1<<14, 1<<31-1),
}

// validateConfig refuses what is unknown rather than storing what does nothing.
func validateConfig(config map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(config)) {
		check, ok := topicConfigs[key]
		if !ok {
			return fmt.Errorf("unknown topic config name: %s (supported are %v)", key, slices.Sorted(maps.Keys(topicConfigs)))
		}
		if err := check(config[key]); err != nil {
			return fmt.Errorf("invalid value %s for configuration %s: %w", config[key], key, err)
		}
	}
	return nil
}

// checkMinInSync: every acknowledged record is on a majority anyway; more than
// that can't be promised yet.
func checkMinInSync(config map[string]string, rf int16) error {
	n, err := strconv.Atoi(config["min.insync.replicas"])
	if err != nil {
		return nil // not set, or refused already
	}
	if majority := int(rf)/2 + 1; n > majority {
		return fmt.Errorf("invalid value %d for configuration min.insync.replicas: acknowledged means fsynced on a majority (%d of %d), more is not supported in this version", n, majority, rf)
	}
	return nil
}

func oneOf(allowed ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(allowed, v) {
			return fmt.Errorf("it must be one of %v in this version", allowed)
		}
		return nil
	}
}

func between(low, high int64) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fmt.Errorf("it is not a number")
		}
		if n < low || n > high {
			return fmt.Errorf("it must be between %d and %d", low, high)
		}
		return nil
	}
}
