package kafka

import (
	"encoding/binary"
	"log/slog"
	"sync"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// For the tests of this package that need a whole node, and so can't be in it.

// API is what the server advertises of one API.
type API struct {
	Name     string
	Key      int16
	Min, Max int16
}

var allAPIs = sync.OnceValue(func() *apiTable {
	s, err := New(Options{Listeners: []Listener{{Net: noListener{}}}, Backend: newMemBackend(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	return s.apis
})

// APIs lists the server's APIs in order of key.
func APIs() (all []API) {
	for _, a := range allAPIs().rows {
		all = append(all, API{a.name, a.key, a.min, a.max})
	}
	return all
}

// DecodeFrame reads a request, which begins with its API key, as the server does.
// body is where its body begins.
func DecodeFrame(frame []byte) (req kmsg.Request, body int, ok bool) {
	a, version, body := bodyOf(frame)
	if a == nil || !a.supports(version) {
		return nil, 0, false
	}
	req, err := decode(a, version, a.flexible(version), frame[body:])
	return req, body, err == nil
}

func bodyOf(frame []byte) (a *api, version int16, body int) {
	if len(frame) < minFrame {
		return nil, 0, 0
	}
	a, version = allAPIs().find(int16(binary.BigEndian.Uint16(frame))), int16(binary.BigEndian.Uint16(frame[2:]))
	if a == nil {
		return nil, 0, 0
	}
	_, _, rest, err := parseHeader(frame, a.flexible(version) && a.supports(version))
	if err != nil {
		return nil, 0, 0
	}
	return a, version, len(frame) - len(rest)
}

// Span is a field of a request.
type Span struct {
	Kind     byte // 'n' number, 's' string, 'y' bytes, '[' array, 't' tags
	At, End  int  // of the number, the length, or the count
	Contents int  // where the contents end, of an array the first element
	Flexible bool // lengths are varints, one more than they say
}

// Spans finds the fields of a request, as far as it is sound.
func Spans(frame []byte) []Span {
	a, version, body := bodyOf(frame)
	if a == nil {
		return nil
	}
	w := surveyor{frame: frame, at: body, version: version, flexible: a.flexible(version)}
	w.structure(a.shape)
	return w.spans
}

type surveyor struct {
	frame    []byte
	at       int
	version  int16
	flexible bool
	bad      bool
	spans    []Span
}

func (w *surveyor) structure(fields []field) {
	for i := range fields {
		if f := &fields[i]; f.kind != '<' && w.version >= f.min && w.version <= f.max {
			w.one(f)
		}
	}
	if w.flexible && !w.bad {
		w.tags()
	}
}

func (w *surveyor) uvarint() int {
	v, n := kbin.Uvarint(w.frame[w.at:])
	if n <= 0 {
		w.bad = true
		return 0
	}
	w.at += n
	return int(v)
}

func (w *surveyor) skip(n int) {
	if n < 0 || n > len(w.frame)-w.at {
		w.bad = true
		return
	}
	w.at += n
}

func (w *surveyor) length(size int) (n int) {
	switch {
	case w.flexible:
		n = w.uvarint() - 1
	case size > len(w.frame)-w.at:
		w.bad = true
	case size == 2:
		n = int(int16(binary.BigEndian.Uint16(w.frame[w.at:])))
		w.at += 2
	default:
		n = int(int32(binary.BigEndian.Uint32(w.frame[w.at:])))
		w.at += 4
	}
	return max(n, 0)
}

func (w *surveyor) one(f *field) {
	if w.bad || len(w.spans) > 1<<12 {
		w.bad = true
		return
	}
	s := Span{Kind: f.kind, At: w.at, Flexible: w.flexible}
	switch f.kind {
	case 'n':
		w.skip(f.size)
		s.End, s.Contents = w.at, w.at
	case 's', 'y':
		size := 2
		if f.kind == 'y' {
			size = 4
		}
		n := w.length(size)
		s.End = w.at
		w.skip(n)
		s.Contents = w.at
	case '{':
		w.structure(f.sub)
		return
	case '[':
		n := w.length(4)
		s.End, s.Contents = w.at, w.at
		at := len(w.spans)
		w.spans = append(w.spans, s)
		for i := 0; i < n && !w.bad; i++ {
			w.one(&f.sub[0])
			if i == 0 && !w.bad {
				w.spans[at].Contents = w.at
			}
		}
		return
	}
	if !w.bad {
		w.spans = append(w.spans, s)
	}
}

func (w *surveyor) tags() {
	s := Span{Kind: 't', At: w.at, Flexible: true}
	n := w.uvarint()
	s.End = w.at
	for ; n > 0 && !w.bad; n-- {
		w.uvarint()
		w.skip(w.uvarint())
	}
	s.Contents = w.at
	if !w.bad {
		w.spans = append(w.spans, s)
	}
}

// OneRecord is a batch of one record.
var OneRecord = testBatch

// Seal sets a batch's length and checksum.
var Seal = seal
