package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeLogDirs (key 35), versions 0-4 (KIP-113)
//
//	2    flexible
//	3    an error of the whole response: there is none
//	4    size and free bytes of the directory's file system (KIP-827)
//
// A node has one directory and tells of its own replicas. Sizes are of record
// batches in segments; what waits in the write-ahead log for its segment is not
// counted. Null topics are all.

func (s *Server) describeLogDirs(_ context.Context, _ *exchange, req *kmsg.DescribeLogDirsRequest) *kmsg.DescribeLogDirsResponse {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	var wanted map[TopicPartition]bool
	if req.Topics != nil {
		wanted = make(map[TopicPartition]bool)
		for i := range req.Topics {
			for _, p := range req.Topics[i].Partitions {
				wanted[TopicPartition{req.Topics[i].Topic, p}] = true
			}
		}
	}
	for _, d := range s.backend.LogDirs() {
		rd := kmsg.NewDescribeLogDirsResponseDir()
		rd.Dir, rd.TotalBytes, rd.UsableBytes = d.Path, d.Total, d.Usable
		topics := make(map[string]int)
		for _, r := range d.Replicas {
			if wanted != nil && !wanted[r.TopicPartition] {
				continue
			}
			at, known := topics[r.Topic]
			if !known {
				at = len(rd.Topics)
				topics[r.Topic] = at
				rt := kmsg.NewDescribeLogDirsResponseDirTopic()
				rt.Topic = r.Topic
				rd.Topics = append(rd.Topics, rt)
			}
			rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			rp.Partition, rp.Size, rp.OffsetLag = r.Index, r.Size, r.Lag
			rd.Topics[at].Partitions = append(rd.Topics[at].Partitions, rp)
		}
		resp.Dirs = append(resp.Dirs, rd)
	}
	return resp
}
