package httpgateway

import (
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
)

// clusters implements the ClusterService.
type clusters struct{ g *Gateway }

// GetStatus implements the service.
func (h clusters) GetStatus(context.Context, *connect.Request[v1.GetStatusRequest]) (*connect.Response[v1.GetStatusResponse], error) {
	report, s := h.g.backend.Health(), h.g.backend.Snapshot()
	resp := &v1.GetStatusResponse{
		Cluster: report.Cluster, ClusterId: h.g.backend.ClusterID(), State: string(report.State), Winner: winner(s.View),
		Nodes: int32(len(s.Nodes)), NodesAlive: int32(report.Nodes), Topics: int32(report.Topics), Partitions: int32(report.Partitions),
	}
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if p.Leader < 0 {
			resp.Leaderless++
		}
		if len(p.InSync) < len(p.Replicas) {
			resp.UnderReplicated++
		}
	}
	for _, f := range report.Findings {
		resp.Findings = append(resp.Findings, &v1.Finding{Kind: f.Kind, Severity: string(f.Severity), What: f.What, Remedy: f.Do, Since: stamp(f.Since)})
	}
	return connect.NewResponse(resp), nil
}

func winner(v *cluster.View) int32 {
	if v.Winner == nil {
		return 0
	}
	return v.Winner.Node
}

func stamp(t *time.Time) *timestamppb.Timestamp {
	if t == nil || t.IsZero() {
		return nil
	}
	return timestamppb.New(*t)
}

// nodes implements the NodeService.
type nodes struct{ g *Gateway }

// ListNodes implements the service.
func (h nodes) ListNodes(context.Context, *connect.Request[v1.ListNodesRequest]) (*connect.Response[v1.ListNodesResponse], error) {
	s := h.g.backend.Snapshot()
	resp := &v1.ListNodesResponse{}
	for i := range s.Nodes {
		resp.Nodes = append(resp.Nodes, node(&s.Nodes[i], s.View))
	}
	return connect.NewResponse(resp), nil
}

func node(n *health.Node, v *cluster.View) *v1.Node {
	return &v1.Node{
		Node: n.Node.Node, Alive: n.Alive, Registered: n.Registered, State: n.State, Wish: n.Wish, Rack: n.Rack, Version: n.Version,
		Kafka: n.Kafka, Http: n.HTTP, Peer: n.Peer, Started: stamp(&n.Started), Leads: int32(n.Leads), Replicas: int32(n.Replicas),
		Behind: int32(n.Behind), Bytes: n.Bytes, Load: n.Load, Winner: winner(v) == n.Node.Node, AwaySince: stamp(n.AwaySince),
	}
}

// DescribeNode implements the service.
func (h nodes) DescribeNode(_ context.Context, req *connect.Request[v1.DescribeNodeRequest]) (*connect.Response[v1.DescribeNodeResponse], error) {
	s, id := h.g.backend.Snapshot(), req.Msg.Node
	i := slices.IndexFunc(s.Nodes, func(n health.Node) bool { return n.Node.Node == id })
	if i < 0 {
		return nil, errNoNode(id)
	}
	resp := &v1.DescribeNodeResponse{Node: node(&s.Nodes[i], s.View)}
	for j := range s.Partitions {
		if p := &s.Partitions[j]; slices.Contains(p.Replicas, id) {
			resp.Replicas = append(resp.Replicas, &v1.NodeReplica{
				Topic: p.Topic, Partition: p.Partition, Leads: p.Leader == id, InSync: slices.Contains(p.InSync, id),
			})
		}
	}
	return connect.NewResponse(resp), nil
}

func errNoNode(id int32) error {
	return refuse(connect.CodeNotFound, "there is no node %d; NodeService.ListNodes shows those there are", id)
}

// DrainNode implements the service.
func (h nodes) DrainNode(ctx context.Context, req *connect.Request[v1.DrainNodeRequest]) (*connect.Response[v1.DrainNodeResponse], error) {
	op, err := h.g.operate(ctx, cluster.Op{Kind: cluster.OpDrain, Node: req.Msg.Node})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&v1.DrainNodeResponse{Operation: op}), nil
}

// UndrainNode implements the service.
func (h nodes) UndrainNode(ctx context.Context, req *connect.Request[v1.UndrainNodeRequest]) (*connect.Response[v1.UndrainNodeResponse], error) {
	op, err := h.g.operate(ctx, cluster.Op{Kind: cluster.OpUndrain, Node: req.Msg.Node})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&v1.UndrainNodeResponse{Operation: op}), nil
}

// DecommissionNode implements the service.
func (h nodes) DecommissionNode(ctx context.Context, req *connect.Request[v1.DecommissionNodeRequest]) (*connect.Response[v1.DecommissionNodeResponse], error) {
	op, err := h.g.operate(ctx, cluster.Op{Kind: cluster.OpDecommission, Node: req.Msg.Node, Force: req.Msg.Force})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&v1.DecommissionNodeResponse{Operation: op}), nil
}

// operate writes an operator's wish.
func (g *Gateway) operate(ctx context.Context, op cluster.Op) (*v1.Operation, error) {
	if err := op.Sensible(); err != nil {
		return nil, refuse(connect.CodeInvalidArgument, "%v", err)
	}
	if s := g.backend.Snapshot(); !slices.ContainsFunc(s.Nodes, func(n health.Node) bool { return n.Node.Node == op.Node }) {
		return nil, errNoNode(op.Node)
	}
	id := gateway.NewOpID(op)
	if err := g.backend.CreateOp(ctx, id, op); err != nil {
		return nil, err
	}
	if seen, ok := g.backend.View().Ops[id]; ok {
		op = seen
	}
	return operation(id, &op), nil
}

// operations implements the OperationService.
type operations struct{ g *Gateway }

// ListOperations implements the service.
func (h operations) ListOperations(_ context.Context, req *connect.Request[v1.ListOperationsRequest]) (*connect.Response[v1.ListOperationsResponse], error) {
	all := h.g.backend.View().Ops
	resp := &v1.ListOperationsResponse{}
	for _, id := range health.OpIDs(all) {
		if op := all[id]; !req.Msg.Active || !op.State.Final() {
			resp.Operations = append(resp.Operations, operation(id, &op))
		}
	}
	return connect.NewResponse(resp), nil
}

// GetOperation implements the service.
func (h operations) GetOperation(_ context.Context, req *connect.Request[v1.GetOperationRequest]) (*connect.Response[v1.GetOperationResponse], error) {
	op, ok := h.g.backend.View().Ops[req.Msg.Id]
	if !ok {
		return nil, refuse(connect.CodeNotFound, "there is no operation %.250q; OperationService.ListOperations shows those there are", req.Msg.Id)
	}
	return connect.NewResponse(&v1.GetOperationResponse{Operation: operation(req.Msg.Id, &op)}), nil
}

func operation(id string, op *cluster.Op) *v1.Operation {
	o := &v1.Operation{
		Id: id, Kind: string(op.Kind), Node: op.Node, Topic: op.Topic, Partition: op.Partition, Replicas: op.Replicas,
		Force: op.Force, Cancel: op.Cancel, State: string(op.State), Reason: op.Reason, Created: stamp(op.Created), Finished: stamp(op.Finished),
	}
	if o.State == "" {
		o.State = string(cluster.OpPending)
	}
	if p := op.Progress; p != nil {
		o.Done, o.Total, o.BytesDone, o.BytesTotal = int32(p.Done), int32(p.Total), p.BytesDone, p.BytesTotal
	}
	return o
}
