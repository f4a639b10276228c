package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/config"
)

// IncrementalAlterConfigs (key 44), versions 0-1 (KIP-339)
//
//	1    flexible
//
// Sets and deletes; appends to lists and takes from them. What is not named
// stays. Any node takes it for topics and for all brokers; a broker takes its
// own.

func (s *Server) incrementalAlterConfigs(ctx context.Context, x *exchange, req *kmsg.IncrementalAlterConfigsRequest) *kmsg.IncrementalAlterConfigsResponse {
	ctx, cancel := context.WithTimeout(ctx, s.adminTimeout(0))
	defer cancel()
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	var rs resources
	for i := range req.Resources {
		rs.count(req.Resources[i].ResourceType, req.Resources[i].ResourceName)
	}
	for i := range req.Resources {
		r := &req.Resources[i]
		rr := kmsg.NewIncrementalAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		ops, err := configOps(r)
		if twice := rs.again(r.ResourceType, r.ResourceName); twice != nil {
			err = twice
		}
		change := ConfigChange{Change: config.Change{Ops: ops}}
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

// configOps reads the operations on one resource.
func configOps(r *kmsg.IncrementalAlterConfigsRequestResource) ([]config.Op, error) {
	ops := make([]config.Op, 0, len(r.Configs))
	for _, c := range r.Configs {
		op := config.Op{Kind: config.OpKind(c.Op), Name: c.Name}
		switch {
		case op.Kind < config.Set || op.Kind > config.Subtract:
			return nil, Errorf(kerr.InvalidRequest, "Unknown operation type %d for configuration %s", c.Op, c.Name)
		case c.Value != nil:
			op.Value = *c.Value
		case op.Kind != config.Delete:
			return nil, Errorf(kerr.InvalidRequest, "Null value not supported for : %s", c.Name)
		}
		ops = append(ops, op)
	}
	return ops, checkConfigNames(ops)
}
