package kafkagateway

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupOf is the group that a request is about, and how long its answer may take.
func groupOf(req kmsg.Request) (string, time.Duration) {
	switch req := req.(type) {
	case *kmsg.JoinGroupRequest:
		return req.Group, time.Duration(max(req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, 0))*time.Millisecond + joinLimit
	case *kmsg.SyncGroupRequest:
		return req.Group, syncLimit
	case *kmsg.HeartbeatRequest:
		return req.Group, groupLimit
	case *kmsg.LeaveGroupRequest:
		return req.Group, groupLimit
	case *kmsg.OffsetCommitRequest:
		return req.Group, groupLimit
	case *kmsg.OffsetDeleteRequest:
		return req.Group, groupLimit
	case *kmsg.OffsetFetchRequest:
		if req.Version >= 8 && len(req.Groups) > 0 {
			return req.Groups[0].Group, groupLimit
		}
		return req.Group, groupLimit
	}
	panic("BUG: not a request of one group: " + kmsg.NameForKey(req.Key()))
}

// movedGroup says whether a node means that it does not coordinate a group.
func movedGroup(code int16) bool {
	return code == kerr.NotCoordinator.Code || code == kerr.CoordinatorNotAvailable.Code
}

// groupCode is the error in a node's answer to a request about one group, or the
// first one of a partition.
func groupCode(req kmsg.Request, body []byte) int16 {
	at := 0
	switch req := req.(type) {
	case *kmsg.JoinGroupRequest:
		if req.Version >= 2 {
			at = 4 // the throttle time is before it
		}
	case *kmsg.SyncGroupRequest, *kmsg.HeartbeatRequest, *kmsg.LeaveGroupRequest:
		if req.GetVersion() >= 1 {
			at = 4
		}
	case *kmsg.OffsetCommitRequest, *kmsg.OffsetFetchRequest:
		return offsetsCode(req, body)
	}
	if len(body) < at+2 {
		return 0
	}
	return int16(binary.BigEndian.Uint16(body[at:]))
}

func offsetsCode(req kmsg.Request, body []byte) int16 {
	resp, err := decode(req, body)
	if err != nil {
		return 0
	}
	switch resp := resp.(type) {
	case *kmsg.OffsetCommitResponse:
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode != 0 {
					return p.ErrorCode
				}
			}
		}
	case *kmsg.OffsetFetchResponse:
		if len(resp.Groups) > 0 {
			return resp.Groups[0].ErrorCode
		}
		if resp.ErrorCode != 0 {
			return resp.ErrorCode
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode != 0 {
					return p.ErrorCode
				}
			}
		}
	}
	return 0
}

// refuseGroup answers a request about one group with an error.
func refuseGroup(req kmsg.Request, code int16) kmsg.Response {
	switch req := req.(type) {
	case *kmsg.JoinGroupRequest:
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.ErrorCode, resp.MemberID = code, req.MemberID
		if req.Version < 7 {
			resp.Protocol = new(string)
		}
		return resp
	case *kmsg.SyncGroupRequest:
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.ErrorCode = code
		return resp
	case *kmsg.HeartbeatRequest:
		resp := kmsg.NewPtrHeartbeatResponse()
		resp.ErrorCode = code
		return resp
	case *kmsg.LeaveGroupRequest:
		resp := kmsg.NewPtrLeaveGroupResponse()
		resp.ErrorCode = code
		return resp
	case *kmsg.OffsetDeleteRequest:
		resp := kmsg.NewPtrOffsetDeleteResponse()
		resp.ErrorCode = code
		return resp
	case *kmsg.OffsetCommitRequest:
		return refuseCommit(req, code)
	case *kmsg.OffsetFetchRequest:
		return refuseFetch(req, code)
	}
	panic("BUG: not a request of one group: " + kmsg.NameForKey(req.Key()))
}

func refuseCommit(req *kmsg.OffsetCommitRequest, code int16) *kmsg.OffsetCommitResponse {
	resp := kmsg.NewPtrOffsetCommitResponse()
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func refuseFetch(req *kmsg.OffsetFetchRequest, code int16) *kmsg.OffsetFetchResponse {
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.ErrorCode = code
	for i := range req.Groups {
		rg := kmsg.NewOffsetFetchResponseGroup()
		rg.Group, rg.ErrorCode = req.Groups[i].Group, code
		resp.Groups = append(resp.Groups, rg)
	}
	if req.Version >= 2 {
		return resp
	}
	for _, t := range req.Topics { // no error of the whole
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, index := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.ErrorCode, rp.Metadata = index, -1, code, new(string)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func coordinatorCode(err error) int16 {
	var ke *kerr.Error
	if errors.As(err, &ke) {
		return ke.Code
	}
	return kerr.CoordinatorNotAvailable.Code
}
