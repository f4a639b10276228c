package kafka

// FetchPartition is what Fetch asks of a [Partition].
type FetchPartition interface {
	// Read returns whole batches from the one that holds offset on, none at or
	// above the high watermark, in at most maxBytes bytes, but with minOne at
	// least one batch if there is any. At the high watermark the data is nil
	// or empty. Errors: OFFSET_OUT_OF_RANGE, NOT_LEADER_OR_FOLLOWER,
	// KAFKA_STORAGE_ERROR; Offsets is valid with OFFSET_OUT_OF_RANGE too.
	Read(offset int64, maxBytes int, minOne bool) (Data, Offsets, error)

	// ReadFollower is Read on a follower, for a consumer that the leader has sent
	// here (KIP-392). The high watermark is the follower's own: what is above it
	// may exist and is OFFSET_NOT_AVAILABLE, which is worth waiting for. It fails
	// with NOT_LEADER_OR_FOLLOWER when the replica has lost its leader or is not
	// in sync.
	ReadFollower(offset int64, maxBytes int, minOne bool) (Data, Offsets, error)

	// Watch has w rung, once, when the offsets or the leadership are others than
	// were seen, at once if they are already, or when the replica closes. Unwatch
	// ends that; w may be rung once more while it runs.
	Watch(w Watcher, seen Offsets, leading bool)
	Unwatch(w Watcher)
}

// Watcher is told that something has changed. Ring is called with locks held:
// it neither blocks nor calls back.
type Watcher interface{ Ring() }
