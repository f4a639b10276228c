package group

import (
	"math"
	"unicode/utf16"
)

// Coordinates is the partition of __consumer_offsets, of so many, whose leader
// coordinates a group: Kafka's abs(groupId.hashCode()) % partitions, by which
// tools that read the topic find a group's records too.
func Coordinates(group string, partitions int32) int32 {
	var h int32 // Java's String.hashCode: over UTF-16 units, overflowing
	for _, u := range utf16.Encode([]rune(group)) {
		h = 31*h + int32(u)
	}
	switch {
	case h == math.MinInt32: // has no positive counterpart
		h = 0
	case h < 0:
		h = -h
	}
	return h % partitions
}
