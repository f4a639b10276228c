package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kbin"
)

// kmsg allocates an array of as many elements as a request announces, if only
// that many bytes follow, and loops over as many tags as are announced, up to
// four billion, even when nothing follows. A request is therefore walked
// before it is decoded: afterwards every count in it is known to be true.
//
// A shape is the layout of a request in all its versions, as in
//
//	s@3+ 2 4 [{ s@0-12 16@13+ [{ 4 y }] }] <1: 4 8>
//
// A number is a field of so many bytes, s a string, y bytes, [..] an array of
// what is inside, {..} a structure, which ends with tags in flexible versions,
// <n: ..> a known tag whose value is a structure, (n: ..) one whose value is the
// fields inside and nothing more. @ bounds the versions.

// maxElements bounds the array elements and tags of one request, all arrays
// together: a small element can cost much more in memory than on the wire.
const maxElements = 1 << 18

var (
	errTruncated = errors.New("truncated")
	errTooMany   = fmt.Errorf("more than %d array elements", maxElements)
)

// field is one node of a shape.
type field struct {
	kind     byte // 'n' fixed, 's' string, 'y' bytes, '[' array, '{' structure, '<' and '(' known tags
	size     int  // of 'n'; number of the tag of '<' and '('
	min, max int16
	sub      []field // element of '[' (one), fields of the others
}

// mustShape parses a shape written in this package.
func mustShape(src string) []field {
	src = strings.NewReplacer("[", " [ ", "{", " { ", "<", " < ", "(", " ( ", "]", " ]", "}", " }", ">", " >", ")", " )").Replace(src)
	tokens := strings.Fields(src)
	fields, rest := parseFields(tokens)
	if len(rest) != 0 {
		panic("BUG: shape ends before " + strings.Join(rest, " "))
	}
	return fields
}

// parseFields reads fields up to the token that closes the enclosing one.
func parseFields(tokens []string) (fields []field, rest []string) {
	closing := map[byte]string{'[': "]", '{': "}", '<': ">", '(': ")"}
	for len(tokens) > 0 {
		name, versions, _ := strings.Cut(tokens[0], "@")
		if name == "]" || name == "}" || name == ">" || name == ")" {
			return fields, tokens
		}
		tokens = tokens[1:]
		f := field{kind: name[0]}
		switch f.kind {
		case 's', 'y':
		case '[', '{', '<', '(':
			if f.tag() {
				f.size, _ = strconv.Atoi(strings.TrimSuffix(tokens[0], ":"))
				tokens = tokens[1:]
			}
			f.sub, tokens = parseFields(tokens)
			if len(tokens) == 0 || !strings.HasPrefix(tokens[0], closing[f.kind]) {
				panic("BUG: shape lacks " + closing[f.kind])
			}
			_, versions, _ = strings.Cut(tokens[0], "@")
			tokens = tokens[1:]
		default:
			n, err := strconv.Atoi(name)
			if err != nil {
				panic("BUG: shape has " + name)
			}
			f.kind, f.size = 'n', n
		}
		f.min, f.max = parseVersions(versions)
		fields = append(fields, f)
	}
	return fields, nil
}

func (f *field) tag() bool { return f.kind == '<' || f.kind == '(' }

func parseVersions(s string) (minVer, maxVer int16) {
	if s == "" {
		return 0, 1<<15 - 1
	}
	from, to, bounded := strings.Cut(strings.TrimSuffix(s, "+"), "-")
	lo, err := strconv.Atoi(from)
	hi := 1<<15 - 1
	if err == nil && bounded {
		hi, err = strconv.Atoi(to)
	}
	if err != nil {
		panic("BUG: shape has versions " + s)
	}
	return int16(lo), int16(hi)
}

// checkShape walks a request's body. It returns an error when a length or
// count in it is not borne out by the bytes that follow. Bytes after the end
// are allowed, as Kafka allows them.
func checkShape(fields []field, body []byte, version int16, flexible bool) error {
	w := walker{src: body, version: version, flexible: flexible, most: maxElements}
	w.structure(fields)
	return w.err
}

// walker reads without allocating. After an error src is empty and every
// loop ends.
type walker struct {
	src      []byte
	version  int16
	flexible bool
	elements int
	most     int // elements
	err      error
}

func (w *walker) fail(err error) {
	if w.err == nil {
		w.err = err
	}
	w.src = nil
}

func (w *walker) skip(n int) {
	if n < 0 || n > len(w.src) {
		w.fail(errTruncated)
		return
	}
	w.src = w.src[n:]
}

func (w *walker) uvarint() int {
	v, n := kbin.Uvarint(w.src)
	if n <= 0 {
		w.fail(errTruncated)
		return 0
	}
	w.src = w.src[n:]
	return int(v)
}

// length reads a string's, bytes' or array's length; -1 (null) and less
// count as nothing: kmsg decides whether null is allowed.
func (w *walker) length(wide bool) int {
	var n int
	switch {
	case w.flexible:
		n = w.uvarint() - 1
	case wide && len(w.src) >= 4:
		n = int(int32(binary.BigEndian.Uint32(w.src)))
		w.src = w.src[4:]
	case !wide && len(w.src) >= 2:
		n = int(int16(binary.BigEndian.Uint16(w.src)))
		w.src = w.src[2:]
	default:
		w.fail(errTruncated)
	}
	return max(n, 0)
}

func (w *walker) count(n int) bool {
	if w.elements += n; w.elements > w.most {
		w.fail(errTooMany)
	}
	return w.err == nil
}

func (w *walker) structure(fields []field) {
	w.fields(fields)
	if w.flexible {
		w.tags(fields)
	}
}

func (w *walker) fields(fields []field) {
	for i := range fields {
		if f := &fields[i]; !f.tag() && w.version >= f.min && w.version <= f.max {
			w.one(f)
		}
	}
}

func (w *walker) one(f *field) {
	switch f.kind {
	case 'n':
		w.skip(f.size)
	case 's':
		w.skip(w.length(false))
	case 'y':
		w.skip(w.length(true))
	case '{':
		w.structure(f.sub)
	case '[':
		n := w.length(true)
		if n > len(w.src) { // no element is empty
			w.fail(errTruncated)
			return
		}
		for ; n > 0 && w.count(1); n-- {
			w.one(&f.sub[0])
		}
	}
}

func (w *walker) tags(fields []field) {
	n := w.uvarint()
	if n > len(w.src)/2 { // a tag is at least its number and its length
		w.fail(errTruncated)
		return
	}
	for ; n > 0 && w.count(1); n-- {
		tag, size := w.uvarint(), w.uvarint()
		value := w.src
		if w.skip(size); w.err != nil {
			return
		}
		for i := range fields {
			if f := &fields[i]; f.tag() && f.size == tag {
				in := *w
				in.src = value[:size]
				if f.kind == '<' {
					in.structure(f.sub)
				} else {
					in.fields(f.sub)
				}
				w.elements, w.err = in.elements, in.err
			}
		}
	}
}
