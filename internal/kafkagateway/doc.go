// Package kafkagateway shows a cluster to Kafka clients as one broker, and forwards
// each part of a request to the node that leads or coordinates it.
//
// # Who is there
//
// The gateway asks each node that it knows every 300 ms for the nodes that this one
// knows (member.go). A node is there while it answers: one whose connection breaks,
// or that says nothing for 2 s, is lost until it answers again, and the connections
// of clients to it are cut, so that what they have under way there goes elsewhere.
// Who leads what is asked when somebody wants it, and again when it turns out to be
// wrong (leaders.go). No etcd is needed for any of it. Nodes of another cluster than the
// first that answered are ignored.
//
// # A request's way
//
// internal/kafka reads and checks requests and answers them in order, with the same
// bounds as on a node. A client's connection has a session (session.go) with
// connections of its own to nodes (link.go), per kind of request: its requests reach
// a node in the order in which it sent them, and a client that goes takes what is its
// own with it.
//
//	Produce                          produce.go, lanes.go   by leader, in lanes
//	Fetch                            fetch.go, fetch_answer.go, standing.go   by leader, waiting at all
//	ListOffsets, OffsetForLeaderEpoch,
//	DeleteRecords, DescribeProducers split.go     by leader
//	groups                           groups.go    to the coordinator
//	the rest                         anynode.go   to the home node, or to all
//
// Record batches pass as they came, both ways, without being copied.
//
// # Non-obvious
//
//   - The number of the gateway is 0, which is no node's, and the same for all
//     gateways: a balancer may move a client from one to another.
//   - Replicas and in-sync replicas in Metadata are the gateway alone, since clients
//     look replicas up among the brokers. Reassignments, log directories and
//     configurations name the nodes.
//   - A batch is sent twice only if it has a producer id, or if it certainly did not
//     reach the first node.
//   - A node's address may be another node's by now: each new connection of the
//     gateway's own asks for the number.
//   - A request of a group is never sent twice: an old OffsetCommit must not overtake
//     a new one.
//   - The answer to a Fetch has no session: nodes are asked without one too, since the
//     partitions of a client may change nodes at any time.
package kafkagateway
