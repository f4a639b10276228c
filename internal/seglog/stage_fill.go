package seglog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/raftsman/raftsman/internal/vfs"
)

func (s *stager) fill(f vfs.File, info SegmentInfo) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	if size > info.Bytes {
		size = info.Bytes
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	file := func(p []byte, off int64) (int, error) { return f.ReadAt(p, off) }
	remote := func(p []byte, off int64) (int, error) { return s.fetch(info.Base, p, off) }
	local := func(p []byte, off int64) (int, error) { return s.pin.ReadAt(info.Base, p, off) }

	crc, err := s.copy(nil, file, 0, size, 0) // what an earlier Stage left
	if err != nil {
		return err
	}
	fresh := size == 0
	if s.pin != nil && size < info.Bytes {
		if x, ok := s.pin.extent(info.Base); ok && x.seg.generation == info.Generation && x.end <= info.Bytes && x.end > size {
			have := x.end
			fresh = false
			if crc, err = s.copy(f, local, size, have, crc); err != nil {
				return err
			}
			size = have
		}
	}
	if crc, err = s.copy(f, remote, size, info.Bytes, crc); err != nil {
		return err
	}
	if crc != info.CRC && !fresh {
		if err := f.Truncate(0); err != nil {
			return err
		}
		if crc, err = s.copy(f, remote, 0, info.Bytes, 0); err != nil {
			return err
		}
	}
	if crc != info.CRC {
		// Nothing of it may be taken for a good beginning next time.
		reason := fmt.Sprintf("fetched bytes have crc32c %08x, expected %08x", crc, info.CRC)
		return errors.Join(&DamageError{File: f.Name(), Reason: reason}, f.Truncate(0))
	}
	return nil
}

// copy reads [from, to) and writes it to dst, if that is not nil. It returns
// the CRC32C extended by those bytes.
func (s *stager) copy(dst vfs.File, read func(p []byte, off int64) (int, error), from, to int64, crc uint32) (uint32, error) {
	for from < to {
		p := s.buf[:min(int64(len(s.buf)), to-from)]
		n, err := read(p, from)
		if n < 0 || n > len(p) {
			return crc, fmt.Errorf("read at %d: %d of %d bytes", from, n, len(p))
		}
		if n > 0 && dst != nil {
			if _, err := dst.WriteAt(p[:n], from); err != nil {
				return crc, err
			}
		}
		crc = crc32.Update(crc, castagnoli, p[:n])
		from += int64(n)
		s.note(int64(n))
		if n < len(p) && err == nil && n == 0 {
			err = io.ErrNoProgress
		}
		if err != nil && from < to {
			return crc, fmt.Errorf("read at %d: %w", from, err)
		}
	}
	return crc, nil
}
