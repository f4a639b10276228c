// Package kafka is the Kafka door: it speaks the Kafka protocol to clients
// and asks a [Backend] for everything it answers.
//
// # The wire
//
// A connection carries frames both ways. A frame is a big-endian int32 length
// and so many bytes.
//
//	request  = key int16, version int16, correlation int32, client id nullable string,
//	           tags when the version is flexible, body
//	response = correlation int32, tags when the version is flexible, body
//
// The response header of ApiVersions has no tags in any version: a client
// reads it before it knows what the broker speaks. Bodies are what
// github.com/twmb/franz-go/pkg/kmsg says, except that Fetch responses are
// written by hand so that record batches go from the log to the socket
// without a copy, and Produce responses because that is the hot path.
//
// # A request's way
//
//  1. One reader per connection takes a frame (frame.go), which grows as its
//     bytes arrive: a length alone allocates at most 1 MiB. It waits first
//     until the connection's pending requests are within their bounds, in
//     count and in bytes, and the node has memory for it (budget.go); unread
//     bytes in the socket are the back-pressure.
//  2. The body's shape is checked against a schema (shape.go) before kmsg
//     decodes it: kmsg believes array counts and tag counts, and a frame of
//     20 bytes can cost it gigabytes or minutes.
//  3. Requests are started in the order of arrival, each by its handler
//     (apis.go, one file per API). Produce and Fetch do not wait in the
//     reader: Produce hands its batches over and is answered when they are
//     committed, Fetch parks in a goroutine of its own, and requests of consumer
//     groups are queued for their coordinator (groups.go), which may keep a
//     JoinGroup for minutes. Other handlers run in
//     the reader, so that a client which creates a topic and writes to it
//     without waiting sees both in this order.
//  4. One writer per connection sends responses in the order of requests,
//     and gathers those that are ready into one write (queue.go, conn.go).
//
// Kafka mutes a connection while a request is being processed. Here later
// requests of the same connection start while earlier ones wait; their
// responses still leave in order, so a parked Fetch delays what follows it by
// its max_wait at most, as it does in Kafka.
//
// # Who owns the bytes
//
// A Produce frame belongs to the garbage collector: its batches are aliased by
// whoever [Partition.Append] gave them to. So does that of a request of a group,
// which its coordinator holds until it is answered. Every other frame is pooled and
// reused once kmsg has decoded it (strings are copied, so handlers may keep
// them; byte slices they must copy). Response buffers are pooled and go back
// after the write. [Data] of a Fetch is released after the write, or when
// the connection has ended.
//
// # Locks
//
// queue.mu, produceOp.mu, gather.mu and Server.mu are leaves, and below queue.mu comes
// outgoing.mu; budget.mu stands alone: no backend call, no write
// and no other lock is taken under them.
//
// # Non-obvious
//
//   - Clients look at the advertised ranges to guess what a broker can do:
//     librdkafka compresses with gzip, snappy and lz4 only when Produce 0 and
//     FindCoordinator 0 are advertised. Produce 0-2 and Fetch 2-3 are
//     therefore advertised and refused, partition by partition, with
//     UNSUPPORTED_VERSION: they carry message formats before magic 2.
//   - acks=1 waits for the commit like acks=all. With acks=0 nothing is
//     answered; an error closes the connection, so that the client learns of
//     it and refreshes its metadata.
//   - A leader that is not live is never named in Metadata, and a node never
//     hints at itself as the new leader: clients would come back at once, and
//     again.
//   - What Fetch finds quiet is watched, once: a ring ends the watch. A session of
//     a client that has gone thus costs its partitions nothing after one ring.
//   - A session's partitions belong to whoever holds its token; only Ring comes
//     from elsewhere, under the partition's lock.
//   - The last stable offset is whatever the partition says; without
//     transactions that is the high watermark.
package kafka
