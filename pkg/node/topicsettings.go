package node

import (
	"strconv"
	"time"

	"github.com/raftsman/raftsman/internal/partition"
)

// settings reads a topic's configuration over the node's defaults. Values were
// validated when they were written; what can't be read counts as not set.
func (r *replicas) settings(config map[string]string) partition.Settings {
	s := r.defaults
	number := func(key string, set func(int64)) {
		if text, ok := config[key]; ok {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				set(n)
			}
		}
	}
	number("segment.bytes", func(n int64) { s.SegmentBytes = n })
	number("retention.bytes", func(n int64) { s.RetentionBytes = n })
	number("max.message.bytes", func(n int64) { s.MaxMessageBytes = int32(n) })
	number("retention.ms", func(n int64) {
		s.RetentionTime = time.Duration(n) * time.Millisecond
		if n < 0 || n > int64(1<<63-1)/int64(time.Millisecond) {
			s.RetentionTime = -1
		}
	})
	return s
}
