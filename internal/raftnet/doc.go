// Package raftnet carries the messages of all raft groups of a node over a few
// TCP connections per pair of nodes. [Net] is the node's network; [Transport]
// is one group's raft.Transport on it. Pings and messages between nodes that
// belong to no group travel on the same connections.
//
// # Connections
//
// Requests flow from the side that dialled, replies come back on the same
// connection. So each ordered pair of nodes has its own connections, in classes:
//
//	class    count               carries
//	Control  1                   votes, pre-votes, TimeoutNow, heartbeats, pings, small messages
//	Data     Options.DataConns   AppendEntries; a replica's are always on the same one
//	Bulk     on demand           InstallSnapshot, Call(Bulk); closed when idle
//
// Control and Data are kept dialled to every node of Resolver.Peers. Each
// connection has a reader and a writer; the writer gathers all that is queued
// into one writev. A frame that finds its queue full makes the caller wait on
// Data and Bulk, and fails with ErrBusy on Control.
//
// # Handshake
//
// All numbers are big endian, CRC is CRC32C, "str8" is a byte with the length
// and as many bytes, "str16" the same with a uint16. The dialler speaks first.
//
//	hello:   "RSMN"  version u16  lowest version u16  body length u16  body  CRC u32
//	  body:  cluster id str8, node i32, incarnation str8, wanted node i32, class u8, slot u8
//	answer:  "RSMN"  version u16  lowest version u16  body length u16  body  CRC u32
//	  body:  status u8 (0 = welcome), cluster id str8, node i32, incarnation str8, life u64, reason str16
//
// The CRC covers everything before it. Bytes after the known fields of a body
// are ignored, so that later versions can add some. Both sides speak the lower
// of the two versions from then on, if neither finds it below its lowest. The
// acceptor refuses another cluster, a wanted node that it is not, its own node
// id, and what Options.CheckPeer refuses; the dialler checks the answer in the
// same way. A newer connection of the same node, class and slot replaces the
// older, and a new incarnation replaces all connections of the old one. The life
// is a random number of the process: a node that was restarted so quickly that no
// dial failed is reported down and up all the same.
//
// # Frames
//
//	 0  payload length  u32   at most MaxPayload
//	 4  kind            u8
//	 5  flags           u8    1 reply, 2 error, 4 no reply wanted
//	 6  zero            u16
//	 8  request id      u64   chosen by the sender of the request, echoed by the reply
//	16  destination     u64   replica id, 0 for the node
//	24  source          u64   replica id, 0 for the node
//	32  payload CRC     u32
//	36  header CRC      u32   of bytes 0 to 35
//	40  payload
//
// A frame whose CRC or length is wrong ends the connection. Kinds:
//
//	1 AppendEntries    4 TimeoutNow         7 beats: AppendEntries without entries, of many groups
//	2 RequestVote      5 InstallSnapshot    64..255 of the user, see Net.Handle
//	3 RequestPreVote   6 Ping (8 bytes, echoed by the reply)
//
// An error reply holds a code u8 and a text (the rest). Payloads of requests
// begin with raft's protocol version u8; "rest" runs to the frame's end:
//
//	AppendEntries:    term u64, previous index u64, previous term u64, commit index u64, count u32,
//	                  count × { index u64, term u64, appended at i64 (ns, 0 = unknown), type u8,
//	                            data length u32, extensions length u32 }, count × { data, extensions }
//	  reply:          term u64, last log u64, flags u8 (1 success, 2 no retry backoff)
//	RequestVote:      term u64, last log index u64, last log term u64, leadership transfer u8
//	RequestPreVote:   term u64, last log index u64, last log term u64
//	  replies:        term u64, granted u8
//	TimeoutNow:       nothing more; its reply neither
//	InstallSnapshot:  snapshot version u8, term u64, last log index u64, last log term u64,
//	                  configuration index u64, peers length u32, configuration length u32,
//	                  peers, configuration, manifest (rest)
//	  reply:          term u64, success u8
//	beats:            n × { destination u64, source u64, term u64, previous index u64, previous term u64, commit index u64 }
//	  reply:          n × { flags u8 (1 success, 2 no retry backoff, 4 no answer, 8 unknown replica), term u64, last log u64,
//	                  the follower's own commit index u64 }
//
// Raft's RPCHeader.ID, RPCHeader.Addr and Leader do not travel: server id and
// address are the decimal source replica id, and the receiver fills them in.
//
// # Memory
//
// Entries above copyLimit are written from raft's own slices; they are never
// changed by raft or its stores, so a frame may be written after its call has
// failed. A received frame is one allocation, which its entries share: whoever
// keeps one entry keeps the frame.
//
// A group's requests wait in its consumer channel (inboxDepth of them, and
// Options.InboxBytes for the group); beyond that they are answered with "busy".
// The sender's pipelines keep at most pipelineDepth requests and pipelineBytes
// in flight, so that one leader alone never meets that bound.
//
// # Ordering
//
// AppendEntries of one group to one replica arrive in the order sent while the
// connection lasts, and are handed to raft in that order. Nothing is ordered
// between classes: a heartbeat may overtake an append, a vote everything. A
// request that was refused (busy, unknown replica) does not stop the ones
// behind it: raft's check of the previous entry refuses those by itself. After
// a reconnection requests of the old connection may still be handed in behind
// those of the new one, which raft tolerates as it does any duplicate.
//
// # Up and down
//
// A peer is up from the first pong on a Control connection. It is down when
// that connection broke and one immediate redial failed, or when no pong came
// for PingTimeout; then all its connections are broken, which fails all that
// waits on them. A node that is not Options.Healthy answers no pings and sends
// neither heartbeats nor appends, breaks the connections that its peers have made
// and takes none, so that to them it looks dead, at once. It still reaches them.
//
// # Lock order
//
// pool.mu, then Net.mu, then peer.mu, then conn.mu, then queue.mu and events.mu. Transport.mu and
// pipeline.mu are taken in this order; conn.mu may be taken under neither. No
// lock is held while raft, the resolver, a handler, a watcher or pending.resolve
// is called; resolve is called by whoever took the call out of conn.calls, and
// so exactly once.
//
// # Goroutines
//
// Per node: accept, tick (pings, timeouts, the resolver), events. Per peer: two
// per connection, in each direction. Per group: one, which waits for raft's
// answers in order. Per pipeline: none, but for a pump while raft does not
// read. Handlers: one per peer for Control while there is work, at most
// bulkHandlers per Bulk connection and kind.
//
// # Non-obvious
//
//   - A heartbeat's call may last for seconds: it is held while all is well
//     (hold.go). Who verifies leadership must say so first (Transport.Hurry).
//   - SetHeartbeatHandler does nothing: raft's fast path runs appendEntries
//     beside its main loop (hashicorp/raft 695).
//   - A pipeline never closes its consumer channel (raft would read a nil
//     future) and a failed future is delivered as Success=false with Term 0:
//     raft looks at nothing else. Raft renews the leader's lease on it all the
//     same; that happens once per broken connection.
//   - Raft stops reading a pipeline's consumer after the first future without
//     success, and may at that moment be inside AppendEntries: a delivered
//     failure therefore ends every AppendEntries of the pipeline
//     (hashicorp/raft 611).
//   - After a failed append raft waits for its next trigger or CommitTimeout
//     before it tries again. So AppendEntries does not fail while the peer is
//     down or when its connection breaks: it waits and sends again. A follower
//     that returns is served at once, whatever the timers. A pipeline can't do
//     that: what it had in flight waits for the next trigger or CommitTimeout.
//     One with nothing in flight delivers a failed future without entries when
//     its connection breaks, so that raft leaves it before the next trigger: that
//     one would be used up by the attempt to send.
//   - In its pipeline raft sends at most MaxAppendEntries entries per trigger, and
//     triggers are merged. A follower that fell behind a burst gets the rest at
//     the pace of CommitTimeout once no new entries come. The transport can't
//     help that: keep MaxAppendEntries above what is proposed at once.
//   - A node answers before it has opened all its groups. AppendEntries asks
//     again for UnknownRetry when it is told "unknown replica", since raft would
//     back off for seconds.
//   - Interrupt is remembered by term, and an append of a newer term interrupts those
//     of older ones; votes are bounded by themselves and go on. An append of the interrupted term that
//     meets a peer that is down fails instead of waiting, since raft's
//     replication may try once more before it sees that it shall stop.
//   - A tick that comes late (the process was paused) counts nobody's silence.
//   - A heartbeat to a peer that is down waits, as an append does. Raft would
//     back off, by seconds once its timers are slow, and a follower that returned
//     would not hear of its leader.
//   - A heartbeat to a replica that its node does not hold waits too, until it is
//     heard from (Appeared) or removed (Forget): raft does not end a call to a
//     removed replica.
//   - Data connections are pinged like Control ones, and fail alone (alive.go).
//   - What a group says while it is idle shares frames with all others
//     (heartbeat.go): packets grow with nodes, not with groups.
package raftnet
