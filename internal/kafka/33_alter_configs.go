package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/config"
)

// AlterConfigs (key 33), versions 0-2
//
//	2    flexible
//
// What is not named falls back to its default: clients that know
// IncrementalAlterConfigs use that. Any node takes it for topics and for all
// brokers; a broker takes its own.

func (s *Server) alterConfigs(ctx context.Context, x *exchange, req *kmsg.AlterConfigsRequest) *kmsg.AlterConfigsResponse {
	ctx, cancel := context.WithTimeout(ctx, s.adminTimeout(0))
	defer cancel()
	resp := kmsg.NewPtrAlterConfigsResponse()
	var rs resources
	for i := range req.Resources {
		rs.count(req.Resources[i].ResourceType, req.Resources[i].ResourceName)
	}
	for i := range req.Resources {
		r := &req.Resources[i]
		rr := kmsg.NewAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		err := rs.again(r.ResourceType, r.ResourceName)
		change := ConfigChange{Change: config.Change{Replace: true}}
		for _, c := range r.Configs {
			if c.Value == nil {
				if err == nil {
					err = Errorf(kerr.InvalidRequest, "Null value not supported for : %s", c.Name)
				}
				continue
			}
			change.Ops = append(change.Ops, config.Op{Kind: config.Set, Name: c.Name, Value: *c.Value})
		}
		if err == nil {
			err = checkConfigNames(change.Ops)
		}
		if err == nil {
			change.Resource, err = s.configResource(r.ResourceType, r.ResourceName)
		}
		if err == nil {
			rs.add(i, change)
		}
		rr.ErrorCode, rr.ErrorMessage = codeOf(err), messageOf(err)
		resp.Resources = append(resp.Resources, rr)
	}
	if len(rs.changes) == 0 {
		return resp
	}
	for i, err := range s.backend.AlterConfigs(ctx, rs.changes, req.ValidateOnly) {
		rr := &resp.Resources[rs.at[i]]
		s.unexpected(x, rr.ResourceName, err)
		rr.ErrorCode, rr.ErrorMessage = codeOf(err), messageOf(err)
	}
	return resp
}
