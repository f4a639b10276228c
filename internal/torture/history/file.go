package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ParseRecord reads CLIENT/NUMBER.
func ParseRecord(text string) (Record, bool) {
	at := strings.LastIndexByte(text, '/')
	if at < 0 {
		return Record{}, false
	}
	n, err := strconv.ParseInt(text[at+1:], 10, 64)
	return Record{text[:at], n}, err == nil && n >= 0
}

// maxLine bounds a line: the records of one fetch.
const maxLine = 64 << 20

// Writer writes a history. Its methods are for any goroutine.
type Writer struct {
	began time.Time
	also  func(Event) // sees each event, in order

	mu   sync.Mutex
	w    *bufio.Writer
	enc  *json.Encoder
	file *os.File
	next int64
	err  error
}

// New begins a history in a new file. also is called with each event, in order
// and never at once; it may be nil.
func New(path string, h Header, also func(Event)) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create the history: %w", err)
	}
	w := &Writer{began: time.Now(), also: also, w: bufio.NewWriterSize(f, 1<<20), file: f}
	w.enc = json.NewEncoder(w.w)
	h.Version, h.Began = Version, w.began.UTC()
	w.err = w.enc.Encode(h)
	return w, nil
}

// Begin notes that an operation begins, before it can have any effect, and returns
// its id.
func (w *Writer) Begin(e Event) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	e.ID = w.next
	w.put(e)
	return e.ID
}

// End notes that an operation has ended.
func (w *Writer) End(id int64, e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.ID = id
	w.put(e)
}

// Note is an operation that takes no time: something that was observed.
func (w *Writer) Note(e Event) {
	id := w.Begin(e)
	w.End(id, Event{Is: OK})
}

func (w *Writer) put(e Event) {
	e.T = int64(time.Since(w.began)) // the lock makes the order of lines that of time
	if err := w.enc.Encode(e); err != nil && w.err == nil {
		w.err = err
	}
	if w.also != nil {
		w.also(e)
	}
}

// Close writes what is left. An error is the first of all.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	err := errors.Join(w.err, w.w.Flush(), w.file.Close())
	w.file = nil
	if err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	return nil
}

// ScanFile reads a history and calls f with each event. A last line that was not
// written wholly, as a killed run leaves it, is left out.
func ScanFile(path string, f func(Event)) (Header, error) {
	file, err := os.Open(path)
	if err != nil {
		return Header{}, err
	}
	defer file.Close()
	h, err := Scan(file, f)
	if err != nil {
		return h, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

// Scan is ScanFile of a stream.
func Scan(r io.Reader, f func(Event)) (h Header, err error) {
	lines := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, whole, err := nextLine(lines)
		if err != nil {
			return h, fmt.Errorf("line %d: %w", n, err)
		}
		if !whole {
			if n == 1 {
				return h, errors.New("not a history: it lacks a first line")
			}
			return h, nil
		}
		if n == 1 {
			if err := json.Unmarshal(line, &h); err != nil || h.Version == 0 {
				return h, errors.New("not a history of raftsman torture: its first line says no version")
			}
			if h.Version != Version {
				return h, fmt.Errorf("a history of version %d; this program reads version %d", h.Version, Version)
			}
			continue
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return h, fmt.Errorf("line %d: %w", n, err)
		}
		f(e)
	}
}

// nextLine returns a line up to its newline, and whether there was one.
func nextLine(r *bufio.Reader) (line []byte, whole bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, true, nil
		case errors.Is(err, io.EOF):
			return line, false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, false, err
		case len(line) > maxLine:
			return nil, false, fmt.Errorf("longer than %d bytes", maxLine)
		}
	}
}
