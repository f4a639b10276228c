package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerId (key 22), versions 0-5
//
//	2    flexible
//	3    the producer's present id and epoch (KIP-360)
//
// An idempotent producer gets a new id with epoch 0, also when it has one and
// asks for a higher epoch: a new id is as good, and nobody need know the old.
// Transactional ids are refused with an error that is fatal to every client.

func (s *Server) initProducerID(ctx context.Context, x *exchange, req *kmsg.InitProducerIDRequest) *kmsg.InitProducerIDResponse {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID != nil {
		resp.ErrorCode = codeOf(errTransactional)
		return resp
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Limits.ProduceTimeout)
	defer cancel()
	id, err := s.backend.InitProducerID(ctx)
	if err != nil {
		s.unexpected(x, "", err)
		resp.ErrorCode = codeOf(err)
		return resp
	}
	resp.ProducerID, resp.ProducerEpoch = id, 0
	return resp
}
