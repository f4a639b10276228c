package seglog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/raftsman/raftsman/internal/vfs"
)

// handle is a file open for reading that is shared and counted.
type handle struct {
	vfs.File
	refs atomic.Int32
}

func (h *handle) release() {
	if h.refs.Add(-1) == 0 {
		h.Close() // opened for reading: nothing to lose
	}
}

// newHandles bounds the files that a node keeps open for reading.
func newHandles(bound int) *cache[*segment, *handle] {
	return newCache[*segment](int64(max(bound, 1)),
		func(h *handle) { h.refs.Add(1) }, func(h *handle) { h.release() })
}

// open returns a retained handle on the segment's file.
func (s *segment) open() (*handle, error) {
	handles := s.log.w.handles
	if h, ok := handles.get(s); ok {
		return h, nil
	}
	f, err := s.log.fs.Open(s.name)
	if err != nil {
		return nil, err
	}
	h := &handle{File: f}
	h.refs.Store(1)
	stored, added := handles.add(s, h, 1)
	if !added {
		h.release()
	}
	s.log.mu.Lock()
	late := s.gone || s.log.closed()
	s.log.mu.Unlock()
	if late { // or a removed file would stay open
		handles.remove(s)
	}
	return stored, nil
}

// readFile fills p from the segment's file. The caller knows that the file
// should be that long: that it is missing or shorter is damage.
func (s *segment) readFile(p []byte, off int64) error {
	h, err := s.open()
	if err == nil {
		var n int
		n, err = h.ReadAt(p, off)
		h.release()
		if n == len(p) {
			return nil
		}
		if err == io.EOF {
			return s.damage(off+int64(n), fmt.Sprintf("the file ends here, wanted bytes up to %d", off+int64(len(p))))
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return s.damage(0, "the file is missing")
	}
	return fmt.Errorf("read segment %d: %w", s.base, err)
}
