package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// lineParser makes a record of a line, whose bytes it may keep.
type lineParser func(line []byte) (*kgo.Record, error)

// parser is what --format, --key, --key-separator and --header ask for.
func (p *produceFlags) parser() (lineParser, error) {
	var headers []kgo.RecordHeader
	for _, text := range p.headers {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--header %q: it must be NAME=VALUE", text)
		}
		headers = append(headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	parse := p.parseLine
	if p.format == "json" {
		parse = p.parseJSON
	}
	return func(line []byte) (*kgo.Record, error) {
		r, err := parse(line)
		if err == nil {
			r.Headers = append(r.Headers, headers...)
		}
		return r, err
	}, nil
}

func (p *produceFlags) parseLine(line []byte) (*kgo.Record, error) {
	key, value, ok := splitKey(line, []byte(p.keySeparator))
	if !ok {
		return nil, fmt.Errorf("it has no key: %q is not in it", p.keySeparator)
	}
	if p.key != "" {
		key = []byte(p.key)
	}
	return &kgo.Record{Key: key, Value: value, Partition: max(p.partition, 0)}, nil
}

// parseJSON is appendJSON backwards.
func (p *produceFlags) parseJSON(line []byte) (*kgo.Record, error) {
	if trimmed := bytes.TrimSpace(line); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, errors.New("it is not a JSON object")
	}
	var j jsonRecord
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields() // a name that is misspelt would lose what it holds
	if err := dec.Decode(&j); err != nil {
		return nil, fmt.Errorf("it is not a record as JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	r := &kgo.Record{Key: fromJSON(j.Key, j.KeyBase64), Value: fromJSON(j.Value, j.ValueBase64), Partition: max(p.partition, 0)}
	if p.keepPartitions {
		if r.Partition = j.Partition; j.Partition < 0 {
			return nil, fmt.Errorf("partition %d: there is none below 0", j.Partition)
		}
	}
	if j.Timestamp != "" {
		t, err := time.Parse(time.RFC3339Nano, j.Timestamp)
		if err != nil {
			return nil, fmt.Errorf("timestamp %q: it must be as 2026-11-21T08:00:00.000Z", j.Timestamp)
		}
		r.Timestamp = t
	}
	for _, h := range j.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: fromJSON(h.Value, h.ValueBase64)})
	}
	return r, nil
}

// fromJSON gives back what text was given.
func fromJSON(s *string, raw []byte) []byte {
	if s != nil {
		return []byte(*s)
	}
	return raw
}

// splitLines cuts at newlines and keeps everything else, carriage returns too.
func splitLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// splitKey cuts a line at the first separator; without one there is no key,
// which is not an empty one.
func splitKey(line, separator []byte) (key, value []byte, ok bool) {
	if line == nil {
		line = []byte{} // an empty value, not a missing one
	}
	if len(separator) == 0 {
		return nil, line, true
	}
	return bytes.Cut(line, separator)
}
