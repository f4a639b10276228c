package seglog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var (
	// ErrOutOfRange says that an offset is below the log start or above the
	// next offset.
	ErrOutOfRange = errors.New("offset out of range")
	// ErrClosed says that the log or its writer was closed.
	ErrClosed = errors.New("segment log closed")
	// ErrNotStaged says that a directory holds no complete staging of a State.
	ErrNotStaged = errors.New("not staged")
)

// DamageError says that a file is not what it must be. The replica is set
// aside and rebuilt from its peers; nothing is cut off.
type DamageError struct {
	File   string
	Offset int64 // where in the file
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s damaged at byte %d: %s", e.File, e.Offset, e.Reason)
}

// SegmentInfo describes one segment file.
type SegmentInfo struct {
	Base         int64  `json:"base"`        // offset of its first batch, and its name
	Bytes        int64  `json:"bytes"`       // length of the file
	CRC          uint32 `json:"crc"`         // CRC32C of the whole file
	MaxTimestamp int64  `json:"max_ts"`      // greatest timestamp in ms, -1 when there is none
	LastOffset   int64  `json:"last_offset"` // of its last record
	// Generation is 0 for a segment that holds batches as they were appended.
	// Compaction gives each one that it writes the next number.
	Generation int64 `json:"generation,omitempty"`
	// DeleteHorizon is the earliest time in ms at which a tombstone of the segment
	// may go (KIP-534); 0 when it has none that compaction has met.
	DeleteHorizon int64 `json:"delete_horizon,omitempty"`
}

// FileName is the name of the segment's file.
func (s SegmentInfo) FileName() string { return s.key().fileName(logSuffix) }

func (s SegmentInfo) key() segmentKey { return segmentKey{s.Base, s.Generation} }

// segmentKey tells all segments of a log apart, those that were replaced too.
type segmentKey struct{ base, generation int64 }

func (k segmentKey) fileName(suffix string) string {
	if k.generation == 0 {
		return fmt.Sprintf("%020d%s", k.base, suffix)
	}
	return fmt.Sprintf("%020d-%010d%s", k.base, k.generation, suffix)
}

// Compacted says how far a log was compacted.
type Compacted struct {
	// Seq is that of the last compaction that was finished, and UpTo the offset
	// below which every record was compacted at least once.
	Seq  int64 `json:"seq"`
	UpTo int64 `json:"up_to"`
	// Pass is the compaction under way, which has replaced all below Done.
	Pass int64 `json:"pass,omitempty"`
	Done int64 `json:"done,omitempty"`
	// Generation counts the replacements of segments.
	Generation int64 `json:"generation"`
}

// State is what a manifest says about a log. The last segment is the active
// one. Segments is empty when nothing is stored.
type State struct {
	Start    int64         `json:"start"` // log start offset
	Next     int64         `json:"next"`  // offset of the next record
	Segments []SegmentInfo `json:"segments"`
	// Sealed says that no batch is added to the last segment any more.
	Sealed    bool      `json:"sealed,omitempty"`
	Compacted Compacted `json:"compacted,omitzero"`
}

// Plain says that nothing in the State is of Sealed, Compacted and generations:
// programs that do not know these can read it.
func (st State) Plain() bool {
	for _, s := range st.Segments {
		if s.Generation != 0 {
			return false
		}
	}
	return !st.Sealed && st.Compacted == (Compacted{})
}

// Validate checks that a State can be that of a log.
func (st State) Validate() error {
	if st.Start < 0 || st.Next < st.Start {
		return fmt.Errorf("segment state: start %d, next %d", st.Start, st.Next)
	}
	if c := st.Compacted; c.Seq < 0 || c.UpTo < 0 || c.UpTo > st.Next || c.Pass < 0 || c.Done < 0 || c.Done > st.Next || c.Generation < 0 {
		return fmt.Errorf("segment state: compacted %+v, next %d", c, st.Next)
	}
	floor := int64(0)
	for i, s := range st.Segments {
		if s.Base < floor || s.LastOffset < s.Base || s.LastOffset >= st.Next || s.Bytes < BatchHeaderLen ||
			s.Generation < 0 || s.Generation > st.Compacted.Generation {
			return fmt.Errorf("segment state: segment %d of %d (base %d, generation %d, last offset %d, %d bytes) does not fit, next offset %d, generation %d",
				i, len(st.Segments), s.Base, s.Generation, s.LastOffset, s.Bytes, st.Next, st.Compacted.Generation)
		}
		floor = s.LastOffset + 1
	}
	return nil
}

const (
	logSuffix   = ".log"
	indexSuffix = ".index"
)

// parseName recognises the names that this package gives, and no others.
func parseName(name string) (key segmentKey, index, ok bool) {
	digits, isLog := strings.CutSuffix(name, logSuffix)
	if !isLog {
		if digits, index = strings.CutSuffix(name, indexSuffix); !index {
			return key, false, false
		}
	}
	base, generation, compacted := strings.Cut(digits, "-")
	if key.base, ok = parseNumber(base, 20); !ok {
		return key, index, false
	}
	if compacted {
		key.generation, ok = parseNumber(generation, 10)
		ok = ok && key.generation > 0
	}
	return key, index, ok
}

// parseNumber reads a number of exactly so many digits.
func parseNumber(s string, digits int) (int64, bool) {
	if len(s) != digits {
		return 0, false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
