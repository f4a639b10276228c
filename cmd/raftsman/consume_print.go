package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// printer appends a record as it is shown.
type printer func(b []byte, r *kgo.Record) []byte

func newPrinter(output string, key, offset bool) (printer, error) {
	if output != "value" && (key || offset) {
		return nil, errors.New("--print-key and --print-offset are for -o value")
	}
	switch {
	case output == "value":
		return func(b []byte, r *kgo.Record) []byte { return appendValue(b, r, key, offset) }, nil
	case output == "json":
		return appendJSON, nil
	case !strings.Contains(output, "%"):
		return nil, fmt.Errorf(`-o %q: it must be value, json, or a format such as '%%k %%v\n'`, output)
	}
	f, err := kgo.NewRecordFormatter(output)
	if err != nil {
		return nil, fmt.Errorf("-o %q: %w", output, err)
	}
	return f.AppendRecord, nil
}

// appendValue appends the value's bytes as they are, and a newline.
func appendValue(b []byte, r *kgo.Record, key, offset bool) []byte {
	if offset {
		b = strconv.AppendInt(b, int64(r.Partition), 10)
		b = append(b, '\t')
		b = strconv.AppendInt(b, r.Offset, 10)
		b = append(b, '\t')
	}
	if key {
		b = append(b, r.Key...)
		b = append(b, '\t')
	}
	b = append(b, r.Value...)
	return append(b, '\n')
}

// jsonRecord is a record as -o json shows it. Bytes that are not UTF-8 are in
// the base64 fields, so that nothing is lost.
type jsonRecord struct {
	Topic       string       `json:"topic"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   string       `json:"timestamp"`
	Key         *string      `json:"key"`
	KeyBase64   []byte       `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 []byte       `json:"value_base64,omitempty"`
	Headers     []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

func appendJSON(b []byte, r *kgo.Record) []byte {
	j := jsonRecord{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset,
		Timestamp: r.Timestamp.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
	}
	j.Key, j.KeyBase64 = text(r.Key)
	j.Value, j.ValueBase64 = text(r.Value)
	for _, h := range r.Headers {
		value, raw := text(h.Value)
		j.Headers = append(j.Headers, jsonHeader{h.Key, value, raw})
	}
	line, err := json.Marshal(j)
	if err != nil {
		panic(fmt.Sprintf("BUG: encode record: %v", err)) // numbers and strings
	}
	b = append(b, line...)
	return append(b, '\n')
}

// text gives bytes as a string, or as they are if they are none; neither when
// there are no bytes at all.
func text(b []byte) (*string, []byte) {
	switch {
	case b == nil:
		return nil, nil
	case !utf8.Valid(b):
		return nil, b
	}
	s := string(b)
	return &s, nil
}
