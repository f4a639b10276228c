package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Refuse is the response to a request about groups that fails as a whole, for
// every request that Handle takes: of another node's group, say, or while the
// log is read. It needs no machine.
func Refuse(req kmsg.Request, err *kerr.Error) kmsg.Response {
	resp := refuse(req, err.Code)
	resp.SetVersion(req.GetVersion())
	return resp
}

func refuse(req kmsg.Request, code int16) kmsg.Response {
	resp := req.ResponseKind()
	switch req := req.(type) {
	case *kmsg.JoinGroupRequest:
		resp := resp.(*kmsg.JoinGroupResponse)
		resp.ErrorCode, resp.Generation, resp.MemberID = code, -1, req.MemberID
	case *kmsg.SyncGroupRequest:
		resp.(*kmsg.SyncGroupResponse).ErrorCode = code
	case *kmsg.HeartbeatRequest:
		resp.(*kmsg.HeartbeatResponse).ErrorCode = code
	case *kmsg.LeaveGroupRequest:
		resp.(*kmsg.LeaveGroupResponse).ErrorCode = code
	case *kmsg.OffsetCommitRequest:
		resp := resp.(*kmsg.OffsetCommitResponse)
		for _, t := range req.Topics {
			topic := kmsg.NewOffsetCommitResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				one := kmsg.NewOffsetCommitResponseTopicPartition()
				one.Partition, one.ErrorCode = p.Partition, code
				topic.Partitions = append(topic.Partitions, one)
			}
			resp.Topics = append(resp.Topics, topic)
		}
	case *kmsg.OffsetFetchRequest:
		refuseFetch(req, resp.(*kmsg.OffsetFetchResponse), code)
	case *kmsg.DescribeGroupsRequest:
		resp := resp.(*kmsg.DescribeGroupsResponse)
		for _, name := range req.Groups {
			one := kmsg.NewDescribeGroupsResponseGroup()
			one.Group, one.ErrorCode = name, code
			resp.Groups = append(resp.Groups, one)
		}
	case *kmsg.ListGroupsRequest:
		resp.(*kmsg.ListGroupsResponse).ErrorCode = code
	case *kmsg.DeleteGroupsRequest:
		resp := resp.(*kmsg.DeleteGroupsResponse)
		for _, name := range req.Groups {
			one := kmsg.NewDeleteGroupsResponseGroup()
			one.Group, one.ErrorCode = name, code
			resp.Groups = append(resp.Groups, one)
		}
	case *kmsg.OffsetDeleteRequest:
		resp.(*kmsg.OffsetDeleteResponse).ErrorCode = code
	default:
		panic("BUG: not a request about groups: " + kmsg.NameForKey(req.Key()))
	}
	return resp
}

// refuseFetch puts the error where each version has it: beside each partition,
// for the whole response, for each group.
func refuseFetch(req *kmsg.OffsetFetchRequest, resp *kmsg.OffsetFetchResponse, code int16) {
	if req.Version >= 8 {
		for _, asked := range req.Groups {
			one := kmsg.NewOffsetFetchResponseGroup()
			one.Group, one.ErrorCode = asked.Group, code
			resp.Groups = append(resp.Groups, one)
		}
		return
	}
	resp.ErrorCode = code
	if req.Version >= 2 {
		return
	}
	for _, t := range req.Topics {
		topic := kmsg.NewOffsetFetchResponseTopic()
		topic.Topic = t.Topic
		for _, partition := range t.Partitions {
			one := kmsg.NewOffsetFetchResponseTopicPartition()
			one.Partition, one.Offset, one.LeaderEpoch, one.Metadata, one.ErrorCode = partition, -1, -1, noMetadata, code
			topic.Partitions = append(topic.Partitions, one)
		}
		resp.Topics = append(resp.Topics, topic)
	}
}
