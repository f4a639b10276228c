// Package cluster is etcd's truth about the cluster: typed keys, a watched
// view of them, its copy on disk, and the transactions that change it.
//
// # Keys
//
// Below <prefix>/<cluster>/ (by default /raftsman/default/), values in small
// JSON for people to read. Unknown fields are ignored.
//
//	meta                           {"cluster_id":"…","epoch":1,"format":1,"created":"…"}
//	nodes/<node>                   Node, under the node's lease
//	leader/<lease in hex>          Candidate, under the node's lease; lowest create revision wins
//	topics/<topic>                 Topic
//	assignments/<topic>/<part.>    Assignment, written by the winner alone
//	status/<node>                  NodeStatus, under the node's lease
//	deleted/<topic id>             Tombstone
//	producer-ids, replica-ids,
//	node-ids                       {"next":7}: the lowest number never handed out
//	frozen                         Freeze: while it exists, nobody changes anything
//
//	ops/<id>                       Op: an operator's wish, progress is written back by the winner
//	config/nodes/<node>            NodeWish: drained or decommissioned
//	config/rebalance               Rebalance: {"paused":true} stops the balancer
//	config/brokers/<node>,
//	config/brokers/default         BrokerConfig: {"config":{"log.retention.ms":"1000"}}
//
// Keys this version does not know (config/…, users/, acls/, quotas/, or a
// later version's) are kept in the copy on disk and otherwise left alone. A
// value that makes no sense is logged once; the key's last good value stays in
// the view, and View.Broken names the key, so that nobody takes the broken key
// for a missing one.
//
// A topic or assignment that vanishes although no tombstone names its topic stays
// in the view, and is Broken too: nothing is deleted, and nothing is begun anew,
// because a key is missing. A tombstone or a raised epoch ends that. For a winner
// that has never seen the assignment there is Topic.Placed.
//
// # View
//
// A View is an immutable picture of all keys at one revision. Store.Run loads
// it at one revision and follows etcd from the next one on; everyone else
// reads Store.View without a lock. While etcd is away the last view stays.
//
// # The copy on disk
//
// view.json holds every key under the prefix as etcd had it, with etcd's
// cluster id and the revision; of a key that makes no sense the last good value
// too, and the topics and assignments that vanished. It is written atomically, about once a second
// while things change, and when Run ends. A node that starts without etcd
// serves from it. A damaged copy is set aside: etcd has it all, unless etcd is
// lost too.
//
// # Freezing
//
// A view remembers which etcd it came from. A revision that went back, another
// etcd's cluster id, a missing or recreated meta, a counter that went back, a
// key of another history all mean that etcd does not hold what it held: producer
// ids could be given out twice, assignments forgotten. Then View.Frozen says
// why, the last good view stays, and every change is refused with ErrFrozen.
// Another etcd's id thaws by itself when the old etcd is back; the other reasons
// hold until an operator has rewritten the keys, which shows in a raised epoch.
// The verdict is a pure function, judge. A revision alone proves little, since
// others write to the same etcd: everything is loaded and compared whenever the
// connection was lost. A node that has frozen writes the key frozen, for nodes
// that remember less.
//
// # Restoring
//
// PlanRestore decides from the nodes' Evidence what etcd should hold; Restore
// writes it. The key frozen stands while it writes, and meta with the raised
// epoch goes last, in the transaction that removes it.
//
// # Who may write what
//
// Every transaction also compares the revision of meta, so that nothing is
// written to an etcd which does not hold this cluster, and its answer is
// judged like any other. Any node may create topics and take numbers. Only the
// winner writes assignments, through Fenced, whose transactions compare the
// create revision of its election key too.
//
// # Lock order
//
// Store.mu is the only lock. It is held for changes of memory, never across a
// call to etcd or the disk.
package cluster
