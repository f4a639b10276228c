package vfs

import (
	"sync/atomic"
	"time"
)

// Slow is a disk whose syncs take longer, as the hook of a Fail. The zero value
// is as quick as the disk beneath. It is safe for concurrent use.
type Slow struct{ delay atomic.Int64 }

// Set makes every sync that begins from now on take so much longer.
func (s *Slow) Set(d time.Duration) { s.delay.Store(int64(d)) }

// Hook is for NewFail.
func (s *Slow) Hook(op Op, _ string) error {
	if op == OpSync || op == OpSyncDir || op == OpSyncVolume {
		if d := time.Duration(s.delay.Load()); d > 0 {
			time.Sleep(d)
		}
	}
	return nil
}
