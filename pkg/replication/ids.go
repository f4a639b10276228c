package replication

import (
	"strconv"

	"github.com/hashicorp/raft"
)

// A replica id in decimal is both the raft server id and the raft address.

func serverID(replica uint64) raft.ServerID { return raft.ServerID(strconv.FormatUint(replica, 10)) }

func serverAddr(replica uint64) raft.ServerAddress {
	return raft.ServerAddress(strconv.FormatUint(replica, 10))
}

// replicaOf returns 0 for the empty id, and for what is none of ours.
func replicaOf(id raft.ServerID) uint64 {
	n, err := strconv.ParseUint(string(id), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
