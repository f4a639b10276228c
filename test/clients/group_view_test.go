package clients

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupView is a group as its coordinator describes it.
type groupView struct {
	coordinator int // the node
	state       string
	protocol    string
	members     []memberView
}

type memberView struct {
	id, instance string
	partitions   []int32
}

// described asks every node for the group, so that no client's memory of who
// coordinates it is in the way.
func (tr trial) described(ctx context.Context) (groupView, error) {
	var errs []error
	for node := 1; node <= len(tr.nodes); node++ {
		g, err := tr.describedBy(ctx, node)
		if err == nil {
			return g, nil
		}
		errs = append(errs, fmt.Errorf("node %d: %w", node, err))
	}
	return groupView{}, errors.Join(errs...)
}

func (tr trial) describedBy(ctx context.Context, node int) (groupView, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{tr.group}
	resp, err := tr.cl.Broker(node).Request(ctx, req)
	if err != nil {
		return groupView{}, err
	}
	g := resp.(*kmsg.DescribeGroupsResponse).Groups[0]
	if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
		return groupView{}, err
	}
	out := groupView{coordinator: node, state: g.State, protocol: g.Protocol}
	for _, m := range g.Members {
		v := memberView{id: m.MemberID}
		if m.InstanceID != nil {
			v.instance = *m.InstanceID
		}
		var a kmsg.ConsumerMemberAssignment
		if a.ReadFrom(m.MemberAssignment) == nil {
			for _, t := range a.Topics {
				if t.Topic == tr.topic {
					v.partitions = t.Partitions
				}
			}
		}
		out.members = append(out.members, v)
	}
	return out, nil
}

// settled waits until the group has so many members and each has partitions.
func (tr trial) settled(ctx context.Context, members int, watched ...*run) error {
	return until(ctx, func() error {
		for _, r := range watched {
			if err := r.ended(); err != nil {
				return err
			}
		}
		g, err := tr.described(ctx)
		if err != nil {
			return err
		}
		if g.state != "Stable" || len(g.members) != members {
			return fmt.Errorf("group %s is %s with %d members, want %d: %+v, coordinated by node %d", tr.group, g.state, len(g.members), members, g.members, g.coordinator)
		}
		for _, m := range g.members {
			if len(m.partitions) == 0 {
				return fmt.Errorf("member %s has no partitions", m.id)
			}
		}
		return nil
	})
}
