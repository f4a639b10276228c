// Package discovery finds a cluster without configuration: on the local network
// by UDP multicast, or through any one of its nodes.
//
// Who looks for a cluster says so to the group four times a second. Members
// answer with where to reach them and which cluster they are; whoever looks then
// fetches /cluster.json from one of them. Nodes that may make a cluster
// (candidates) agree on one of them first: docs/adr/0014 has the protocol, its
// argument and where it ends. Candidate is that protocol, without a clock or a
// network; Look runs it, Answer is a member's side.
//
// # Format
//
// A datagram is at most 1200 bytes: "RMD1", 32 bytes of HMAC-SHA256 of the rest
// under the cluster's secret (zeros without one), and a Message as JSON. Whatever
// is longer, is not signed by the same secret, or makes no sense is dropped and
// counted.
//
// # Non-obvious
//
//   - A grant counts from before the message was sent that it answers, and its
//     giver keeps it for longer than its taker may use it.
//   - Time that nobody has watched counts for nothing: a candidate that was stopped,
//     or could not send, listens for the whole time again.
//   - What a candidate has made is nobody's until it is opened, and until then it
//     is given up for anybody who was first.
package discovery
