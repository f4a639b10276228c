package controller

import "github.com/raftsman/raftsman/internal/cluster"

// hold says why a partition without an assignment is not placed: it was placed
// before, and there may be data of it; or the numbers of replicas can't be read,
// which holds for the whole topic. ever is the number of the topic's partitions
// that were placed before.
func hold(view *cluster.View, tp cluster.TopicPartition, ever int32) (at cluster.TopicPartition, why string) {
	if tp.Partition < ever {
		return tp, "its assignment was deleted from etcd, and a partition is never begun anew; put it back from what the nodes know: raftsman cluster restore-metadata"
	}
	if why, broken := view.Broken["replica-ids"]; broken {
		return cluster.TopicPartition{Topic: tp.Topic, Partition: -1}, "the key replica-ids makes no sense and must be mended: " + why
	}
	return at, ""
}
