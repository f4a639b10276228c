package node

// VerifyOptions say what is to be verified.
type VerifyOptions struct {
	Topics []string `json:"topics,omitempty"` // none: all
	// Rate is how many bytes of segments each node reads in a second; 0 is no limit.
	Rate int64 `json:"rate,omitempty"`
	// Repair has the segments mended that a checksum proves damaged.
	Repair bool `json:"repair,omitempty"`
}

// VerifyEvent is one line of what a verification says: one field is set.
type VerifyEvent struct {
	Progress   *VerifyProgress `json:"progress,omitempty"`
	Difference *Difference     `json:"difference,omitempty"`
	Incomplete *Incomplete     `json:"incomplete,omitempty"`
	Done       *VerifyProgress `json:"done,omitempty"` // the last event
	Error      string          `json:"error,omitempty"`
}

// VerifyProgress counts what was verified so far.
type VerifyProgress struct {
	Partitions int   `json:"partitions"` // verified so far, wholly or in part
	Of         int   `json:"of"`
	Replicas   int   `json:"replicas"`
	Batches    int64 `json:"batches"` // each once, not once for each replica
	Bytes      int64 `json:"bytes"`   // read by all nodes together
}

// Kinds of a Difference.
const (
	// KindDamage: a checksum proves which copies are not what was written, and the
	// others are equal.
	KindDamage = "damage"
	// KindDivergence: copies differ that are what was written, each by its own
	// checksum. Nobody but a person can say which is right.
	KindDivergence = "divergence"
)

// Difference is one place where replicas differ, or one is damaged.
type Difference struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Kind      string `json:"kind"`
	Offset    int64  `json:"offset"`      // of the first record concerned
	Last      int64  `json:"last_offset"` // of the last one
	Copies    []Copy `json:"copies"`
	Repaired  bool   `json:"repaired"` // all damaged copies are whole again
}

// States of a Copy.
const (
	CopyIntact  = "intact"  // it is what was written
	CopyDamaged = "damaged" // a checksum proves that it is not
	CopyMissing = "missing" // no such batch
)

// Copy is what one replica has there.
type Copy struct {
	Node    int32  `json:"node"`
	Replica uint64 `json:"replica"`
	State   string `json:"state"`
	Bytes   int64  `json:"bytes,omitempty"`
	CRC     uint32 `json:"crc,omitempty"` // CRC32C of the whole batch
	Epoch   int32  `json:"epoch,omitempty"`
	Segment int64  `json:"segment"` // base offset
	File    string `json:"file,omitempty"`
	Pos     int64  `json:"pos"` // in the file, in bytes
	Reason  string `json:"reason,omitempty"`
	// Repair is what became of the damaged segment: "mended", or why not.
	Repair string `json:"repair,omitempty"`
}

// Incomplete is a replica that could not be verified, or not wholly.
type Incomplete struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Node      int32  `json:"node,omitempty"`
	Replica   uint64 `json:"replica,omitempty"`
	Reason    string `json:"reason"`
}
