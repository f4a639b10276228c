package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// filter chooses records: all that is asked for must be there.
type filter struct {
	key, value match
	headers    []headerMatch
}

// match looks at bytes; nil takes all.
type match func(b []byte) bool

type headerMatch struct {
	name  string
	value match // nil: any
}

const matchHelp = "a text that is in it, or /REGEXP/"

// parseMatch reads a text or a /regular expression/.
func parseMatch(flag, text string) (match, error) {
	if len(text) > 1 && text[0] == '/' && text[len(text)-1] == '/' {
		re, err := regexp.Compile(text[1 : len(text)-1])
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", flag, text, err)
		}
		return re.Match, nil
	}
	return func(b []byte) bool { return bytes.Contains(b, []byte(text)) }, nil
}

// newFilter reads the flags; empty ones take all.
func newFilter(key, value string, headers []string) (f filter, err error) {
	if key != "" {
		if f.key, err = parseMatch("--key", key); err != nil {
			return f, err
		}
	}
	if value != "" {
		if f.value, err = parseMatch("--value", value); err != nil {
			return f, err
		}
	}
	for _, text := range headers {
		name, wanted, some := strings.Cut(text, "=")
		if name == "" {
			return f, fmt.Errorf("--header %q: it must be NAME or NAME=VALUE", text)
		}
		h := headerMatch{name: name}
		if some {
			if h.value, err = parseMatch("--header", wanted); err != nil {
				return f, err
			}
		}
		f.headers = append(f.headers, h)
	}
	return f, nil
}

// wants says whether a record is chosen. A key or value that is missing matches
// nothing.
func (f *filter) wants(r *kgo.Record) bool {
	if f.key != nil && (r.Key == nil || !f.key(r.Key)) || f.value != nil && (r.Value == nil || !f.value(r.Value)) {
		return false
	}
	for _, h := range f.headers {
		if !h.in(r.Headers) {
			return false
		}
	}
	return true
}

func (m headerMatch) in(headers []kgo.RecordHeader) bool {
	for _, h := range headers {
		if h.Key == m.name && (m.value == nil || m.value(h.Value)) {
			return true
		}
	}
	return false
}
