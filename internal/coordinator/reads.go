package coordinator

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// isRead says whether a response tells what the log holds, and so must not come
// from a leader that was deposed.
func isRead(resp kmsg.Response) bool {
	switch resp.(type) {
	case *kmsg.OffsetFetchResponse, *kmsg.DescribeGroupsResponse, *kmsg.ListGroupsResponse,
		*kmsg.DeleteGroupsResponse, *kmsg.OffsetDeleteResponse:
		return true
	}
	return false
}

// read is a response that waits for the term to be confirmed.
type read struct {
	call *call
	resp kmsg.Response
}

// reads wait for a confirmation that began after they came: those in asked for
// the one under way, the others for the next.
type reads struct {
	held  []read
	asked []read
}

// verdict is the outcome of one confirmation.
type verdict struct{ err error }

func (r *reads) hold(x *call, resp kmsg.Response) { r.held = append(r.held, read{x, resp}) }

// refuse answers all that waits.
func (r *reads) refuse(c *Coordinator) {
	for _, x := range append(r.asked, r.held...) {
		c.answer(x.call, nil, kerr.NotCoordinator)
	}
	r.asked, r.held = nil, nil
}

// verify has the term confirmed for the reads that wait, unless a confirmation is
// under way.
func (t *term) verify() {
	if len(t.reads.held) == 0 || len(t.reads.asked) > 0 {
		return
	}
	t.reads.asked, t.reads.held = t.reads.held, nil
	c := t.c
	t.wg.Go(func() {
		err := c.opts.Log.Verify(c.opts.Term)
		c.mu.Lock()
		c.verified = append(c.verified, verdict{err})
		c.mu.Unlock()
		c.poke()
	})
}

// conclude answers the reads that a confirmation was for.
func (t *term) conclude(verdicts []verdict) {
	for _, v := range verdicts {
		for _, x := range t.reads.asked {
			if v.err != nil {
				t.c.answer(x.call, nil, kerr.NotCoordinator)
			} else {
				t.c.answer(x.call, x.resp, nil)
			}
		}
		t.reads.asked = nil
	}
}
