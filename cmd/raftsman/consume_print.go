package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// printer appends a record as it is shown.
type printer func(b []byte, r *kgo.Record) []byte

// recordFormats are the formats with a name.
var recordFormats = []string{"value", "raw", "json", "yaml", "hex"}

func newPrinter(format string, key, offset bool) (printer, error) {
	if format != "value" && (key || offset) {
		return nil, errors.New("--print-key and --print-offset are for --format value")
	}
	switch format {
	case "value":
		return func(b []byte, r *kgo.Record) []byte { return appendValue(b, r, key, offset) }, nil
	case "raw":
		return func(b []byte, r *kgo.Record) []byte { return append(b, r.Value...) }, nil
	case "json":
		return appendJSON, nil
	case "yaml":
		return appendYAML, nil
	case "hex":
		return appendHex, nil
	}
	switch {
	case strings.Contains(format, "{{"):
		return templatePrinter(format)
	case !strings.Contains(format, "%"):
		return nil, fmt.Errorf(`--format %q: it must be %s, a format such as '%%k %%v\n', or a Go template such as '{{.Key}}'`, format, strings.Join(recordFormats, ", "))
	}
	f, err := kgo.NewRecordFormatter(format)
	if err != nil {
		return nil, fmt.Errorf("--format %q: %w", format, err)
	}
	return f.AppendRecord, nil
}

// templateRecord is a record as a Go template sees it. A key or value that is
// missing is empty.
type templateRecord struct {
	Topic      string
	Partition  int32
	Offset     int64
	Timestamp  time.Time
	Key, Value string
	Headers    []templateHeader
}

type templateHeader struct{ Key, Value string }

var templateFuncs = template.FuncMap{
	"hex":    func(s string) string { return hex.EncodeToString([]byte(s)) },
	"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"json": func(v any) (string, error) {
		b, err := json.Marshal(v)
		return string(b), err
	},
}

// templatePrinter prints a record by a Go template, and a newline. What a template
// can't do with a record is printed in its place.
func templatePrinter(text string) (printer, error) {
	t, err := template.New("--format").Funcs(templateFuncs).Parse(text)
	if err == nil {
		err = t.Execute(io.Discard, templateRecord{}) // unknown fields show here
	}
	if err != nil {
		return nil, fmt.Errorf("--format: %w", err)
	}
	return func(b []byte, r *kgo.Record) []byte {
		data := templateRecord{r.Topic, r.Partition, r.Offset, r.Timestamp.UTC(), string(r.Key), string(r.Value), nil}
		for _, h := range r.Headers {
			data.Headers = append(data.Headers, templateHeader{h.Key, string(h.Value)})
		}
		buf := bytes.NewBuffer(b)
		if err := t.Execute(buf, data); err != nil {
			fmt.Fprintf(buf, "<%v>", err)
		}
		return append(buf.Bytes(), '\n')
	}, nil
}

// appendHex appends bytes that no terminal minds.
func appendHex(b []byte, r *kgo.Record) []byte {
	b = fmt.Appendf(b, "%d\t%d\t", r.Partition, r.Offset)
	for i, part := range [][]byte{r.Key, r.Value} {
		if i > 0 {
			b = append(b, '\t')
		}
		if part == nil {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return append(b, '\n')
}

func appendYAML(b []byte, r *kgo.Record) []byte {
	buf := bytes.NewBuffer(append(b, "---\n"...))
	if err := encodeYAML(buf, json.RawMessage(appendJSON(nil, r))); err != nil {
		panic(fmt.Sprintf("BUG: encode record: %v", err)) // JSON is YAML
	}
	return buf.Bytes()
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

// jsonRecord is a record as consume --format json writes it and produce --format
// json reads it. Bytes that are not UTF-8 are in the base64 fields, so that nothing
// is lost.
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
