package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster (key 60), versions 0-2
//
//	0    flexible
//	1    endpoints of brokers or of controllers: brokers only
//	2    fenced brokers, on request: those that are not live (KIP-1073)

const endpointBrokers = 1

func (s *Server) describeCluster(_ context.Context, x *exchange, req *kmsg.DescribeClusterRequest) *kmsg.DescribeClusterResponse {
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.ControllerID = -1
	if x.version >= 1 && req.EndpointType != endpointBrokers {
		err := Errorf(kerr.UnsupportedEndpointType, "only endpoints of brokers are known")
		resp.ErrorCode, resp.ErrorMessage, resp.EndpointType = codeOf(err), messageOf(err), req.EndpointType
		return resp
	}
	brokers := s.brokers(x.conn.listener)
	resp.EndpointType = endpointBrokers
	resp.ClusterID = s.backend.ClusterID()
	resp.ControllerID = s.controller(brokers)
	for _, b := range brokers {
		rb := kmsg.NewDescribeClusterResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack = b.ID, b.Host, b.Port, rackOf(b)
		resp.Brokers = append(resp.Brokers, rb)
	}
	if req.IncludeFencedBrokers {
		for _, b := range s.backend.Absent(x.conn.listener) {
			rb := kmsg.NewDescribeClusterResponseBroker()
			rb.NodeID, rb.Host, rb.Port, rb.Rack, rb.IsFenced = b.ID, b.Host, b.Port, rackOf(b), true
			resp.Brokers = append(resp.Brokers, rb)
		}
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	return resp
}
