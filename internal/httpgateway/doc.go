// Package httpgateway is the HTTP gateway of a node: Connect services, which speak
// gRPC, gRPC-Web, and JSON or protobuf over HTTP, and the proxy of `raftsman
// gateway` to them. The services are described in api/raftsman/v1.
//
// # Who answers
//
// What is about the whole cluster any node answers by itself. Records go through
// the Kafka server of a node that has them, over a connection within the process
// (kafka.Server.Connect): there is one path on which batches are checked and
// appended, and one on which they are read. Groups, configurations and offsets are
// asked of whoever has them over the Kafka protocol, by a Kafka client whose first
// broker is the own node (admin.go).
//
//   - Produce (produce.go): the records of each partition become one batch of the
//     partition's leader. If that is another node, they are sent to its Produce.
//   - Consume and Fetch (consume.go): each partition is read from the own replica if
//     it is in sync, else from an available one that is, in turn.
//
// A request that a node sends on behalf of a client has Raftsman-Hops, how many
// nodes it has passed; after maxHops it is answered or refused, never sent on.
// Raftsman-Answered-By in the response names the nodes whose replicas answered.
//
// # Retries
//
// A Produce without a producer id borrows one of the node's (producers.go), which
// nobody else uses meanwhile, so that its batches may be sent again until it is
// known what became of them: a partition drops what it has. When a leader dies its
// next one is sent the batch, and the client notices nothing but the time. If it
// stays unknown the client is told so, and the producer id is never used again.
// Reads go on at another replica.
//
// # Bounds
//
// A request is bounded in size and in the number of its elements (codec.go), what is
// under way at once in number (guard.go), calls and streams in time: a stream ends
// when its client takes nothing for streamStall.
//
// # Web pages
//
// A browser on the operator's machine reaches this port on behalf of any page that
// is open in it. So Host must be an IP address, localhost, a name of the node or one
// that is configured (a page that had its own name rebound to this address has the
// wrong one), and Origin, if there is one, the address that the request was sent to,
// or one that is configured.
//
// # Goroutines and locks
//
// A handler's goroutine starts one for each partition or node that it needs and
// waits for them. Locks are held for a few instructions and never two at once.
package httpgateway
