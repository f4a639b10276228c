package kafka

import (
	"context"
	"reflect"
	"time"
)

// fetchWait bounds the max_wait that a client may ask for.
const fetchWait = 5 * time.Minute

// wait parks a fetch until it can be answered: enough bytes, an error, its
// time over, or the connection draining. It answers unless the connection has
// ended. No data is held while it waits.
func (op *fetchOp) wait(ctx context.Context) {
	timer := time.NewTimer(min(millis(op.req.MaxWaitMillis), fetchWait))
	defer timer.Stop()
	for {
		moved := op.park(ctx, timer.C)
		if ctx.Err() != nil {
			return
		}
		if op.pass() || !moved {
			op.answer(0)
			return
		}
		op.release()
	}
}

// park returns true when a partition's high watermark is above what the last
// pass saw, or its leadership has changed, and false when the wait is over.
func (op *fetchOp) park(ctx context.Context, timeout <-chan time.Time) bool {
	var passed []<-chan struct{}
	for i := range op.parts {
		if p := &op.parts[i]; p.part != nil {
			ch, cancel := p.part.Wait(p.offsets.HighWatermark)
			defer cancel()
			passed = append(passed, ch)
		}
	}
	stop := op.x.conn.stop
	if len(passed) == 1 {
		select {
		case <-passed[0]:
			return true
		case <-timeout:
		case <-stop:
		case <-ctx.Done():
		}
		return false
	}
	cases := make([]reflect.SelectCase, 0, 3+len(passed))
	recv := func(ch any) {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ch)})
	}
	recv(timeout)
	recv(stop)
	recv(ctx.Done())
	for _, ch := range passed {
		recv(ch)
	}
	chosen, _, _ := reflect.Select(cases)
	return chosen >= 3
}
