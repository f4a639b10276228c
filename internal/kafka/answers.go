package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Answers of other nodes are checked as requests are (shape.go) before kmsg
// decodes them: a node may be of another version, or no node at all.

// maxAnswerElements bounds an answer's array elements: Metadata of 100,000
// partitions has about a million.
const maxAnswerElements = 1 << 23

var answerShapes = map[int16][]field{
	0:  mustShape("[{ s@0-12 16@13+ [{ 4 2 8 8@2+ 8@5+ [{ 4 s }]@8+ s@8+ <0: 4 4> }] }] 4@1+ (0: [{ 4 s 4 s }])"),
	1:  mustShape("4@1+ 2@7+ 4@7+ [{ s@0-12 16@13+ [{ 4 2 8 8@4+ 8@5+ [{ 8 8 }]@4+ 4@11+ y <0: 4 8> <1: 4 4> <2: 8 4> }] }] (0: [{ 4 s 4 s }])"),
	2:  mustShape("4@2+ [{ s [{ 4 2 [8]@0-0 8@1+ 8@1+ 4@4+ }] }]"),
	3:  mustShape("4@3+ [{ 4 s 4 s@1+ }] s@2+ 4@1+ [{ 2 s 16@10+ 1@1+ [{ 2 4 4 4@7+ [4] [4] [4]@5+ }] 4@8+ }] 4@8-10 2@13+"),
	8:  mustShape("4@3+ [{ s@0-9 16@10+ [{ 4 2 }] }]"),
	9:  mustShape("4@3+ [{ s [{ 4 8 4@5+ s 2 }] }]@0-7 2@2-7 [{ s [{ s@8-9 16@10+ [{ 4 8 4 s 2 }] }] 2 }]@8+"),
	10: mustShape("4@1+ 2@0-3 s@1-3 4@0-3 s@0-3 4@0-3 [{ s 4 s 4 2 s }]@4+"),
	15: mustShape("4@1+ [{ 2 s@6+ s s s s [{ s s@4+ s s y y }] 4@3+ }]"),
	16: mustShape("4@1+ 2 [{ s s s@4+ s@5+ }]"),
	18: mustShape("2 [{ 2 2 2 }] 4@1+ (0: [{ s 2 2 }]) (2: [{ s 2 2 }])"),
	21: mustShape("4 [{ s [{ 4 8 2 }] }]"),
	23: mustShape("4@2+ [{ s [{ 2 4 4@1+ 8 }] }]"),
	32: mustShape("4 [{ 2 s 1 s [{ s s 1 1@0-0 1@1+ 1 [{ s s 1 }]@1+ 1@3+ s@3+ }] }]"),
	35: mustShape("4 2@3+ [{ 2 s [{ s [{ 4 8 8 1 }] }] 8@4+ 8@4+ }]"),
	42: mustShape("4 [{ s 2 }]"),
	60: mustShape("4 2 s 1@1+ s 4 [{ 4 s 4 s 1@2+ }] 4"),
	61: mustShape("4 [{ s [{ 4 2 s [{ 8 4 4 8 4 8 }] }] }]"),
}

// DecodeAnswer decodes the body of another node's response, whose version is
// set. What it has of bytes aliases the body.
func DecodeAnswer(resp kmsg.Response, body []byte) error {
	shape, known := answerShapes[resp.Key()]
	if !known {
		panic("BUG: no shape for the answer to " + kmsg.NameForKey(resp.Key()))
	}
	w := walker{src: body, version: resp.GetVersion(), flexible: resp.IsFlexible(), most: maxAnswerElements}
	if w.structure(shape); w.err != nil {
		return fmt.Errorf("answer to %s version %d: %w", kmsg.NameForKey(resp.Key()), resp.GetVersion(), w.err)
	}
	if err := resp.ReadFrom(body); err != nil {
		return fmt.Errorf("answer to %s version %d: %w", kmsg.NameForKey(resp.Key()), resp.GetVersion(), err)
	}
	return nil
}

// SplitAnswer splits a response frame, without its length, behind its header.
func SplitAnswer(frame []byte, flexible bool) (correlation int32, body []byte, err error) {
	if len(frame) < 4 {
		return 0, nil, errors.New("answer without a header")
	}
	correlation = int32(binary.BigEndian.Uint32(frame))
	body = frame[4:]
	if flexible {
		w := walker{src: body, flexible: true, most: maxElements}
		if w.tags(nil); w.err != nil {
			return 0, nil, fmt.Errorf("answer's header: %w", w.err)
		}
		body = w.src
	}
	return correlation, body, nil
}
