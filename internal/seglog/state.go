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
}

// State is what a manifest says about a log. The last segment is the active
// one. Segments is empty when nothing is stored.
type State struct {
	Start    int64         `json:"start"` // log start offset
	Next     int64         `json:"next"`  // offset of the next record
	Segments []SegmentInfo `json:"segments"`
}

// Validate checks that a State can be that of a log.
func (st State) Validate() error {
	if st.Start < 0 || st.Next < st.Start {
		return fmt.Errorf("segment state: start %d, next %d", st.Start, st.Next)
	}
	floor := int64(0)
	for i, s := range st.Segments {
		if s.Base < floor || s.LastOffset < s.Base || s.LastOffset >= st.Next || s.Bytes < BatchHeaderLen {
			return fmt.Errorf("segment state: segment %d of %d (base %d, last offset %d, %d bytes) does not fit, next offset %d",
				i, len(st.Segments), s.Base, s.LastOffset, s.Bytes, st.Next)
		}
		floor = s.LastOffset + 1
	}
	return nil
}

const (
	logSuffix   = ".log"
	indexSuffix = ".index"
)

func logName(base int64) string   { return fmt.Sprintf("%020d%s", base, logSuffix) }
func indexName(base int64) string { return fmt.Sprintf("%020d%s", base, indexSuffix) }

// parseName recognises the names that this package gives, and no others.
func parseName(name string) (base int64, index, ok bool) {
	digits, isLog := strings.CutSuffix(name, logSuffix)
	if !isLog {
		if digits, index = strings.CutSuffix(name, indexSuffix); !index {
			return 0, false, false
		}
	}
	if len(digits) != 20 {
		return 0, false, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false, false
		}
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, index, err == nil
}
