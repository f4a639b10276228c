// Package member runs a member of etcd in a node's process, for clusters that were
// made without one (--bootstrap): the first node makes it, the next two nodes
// extend it as learners and are promoted, all others are its clients.
//
// # On disk
//
// membership.json in the data directory says which cluster the node belongs to, how
// to reach its etcd, and whether it has a member of it; etcd's own data is in etcd/
// beside it. The file is written before what it tells of begins:
//
//   - "making": etcd/ is a first node's that is not open to anybody. A start
//     removes both.
//   - "open": the node belongs to that cluster for good. It never makes another one,
//     whatever it finds or does not find on the network.
//
// membership.lock keeps a second process away.
//
// # Non-obvious
//
//   - A member that has its data restarts from it and asks nobody. Only a cluster
//     without any majority waits.
//   - A member's name is made with etcd/: one at this node's own peer address under
//     another name is the node's former self without its data, and is removed before
//     the new one is added.
//   - A learner answers no clients, so its endpoint is used once it was promoted.
//   - etcd takes one learner at a time: the third node waits until the second was
//     promoted. A lock in etcd keeps two nodes from both being the third.
package member
