package seglog

import (
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"

	"github.com/raftsman/raftsman/internal/vfs"
)

// Prove reads a segment's file and returns nil if it is what was written: a
// DamageError if not.
func (p *Pin) Prove(base int64) error {
	for _, info := range p.st.Segments {
		if info.Base == base {
			err := proveFile(&pinFile{pin: p, base: base, name: p.fileOf(base), size: info.Bytes}, info)
			if p.log.closed() {
				return ErrClosed
			}
			return err
		}
	}
	return fmt.Errorf("segment %d: %w", base, ErrOutOfRange)
}

func proveFile(f vfs.File, info SegmentInfo) error {
	buf, crc := make([]byte, min(scanBytes, info.Bytes)), uint32(0)
	for pos := int64(0); pos < info.Bytes; {
		p := buf[:min(scanBytes, info.Bytes-pos)]
		if n, err := f.ReadAt(p, pos); n < len(p) {
			if err == nil || err == io.EOF {
				return &DamageError{File: f.Name(), Offset: pos + int64(n), Reason: fmt.Sprintf("the file ends here, wanted %d bytes", info.Bytes)}
			}
			return err
		}
		crc = crc32.Update(crc, castagnoli, p)
		pos += int64(len(p))
	}
	if crc != info.CRC {
		return &DamageError{File: f.Name(), Reason: wrongCRC(crc, info)}
	}
	return nil
}

// SegmentBase tells the base offset from the name of a segment's file.
func SegmentBase(file string) (base int64, ok bool) {
	key, index, ok := parseName(filepath.Base(file))
	return key.base, ok && !index
}

// fileOf is the path of the file that a base offset stands for.
func (p *Pin) fileOf(base int64) string {
	return vfs.Join(p.log.dir, p.named[base].fileName(logSuffix))
}

// pinFile reads a pinned segment, a large piece at a time.
type pinFile struct {
	vfs.File // nil: it is only read
	pin      *Pin
	base     int64
	name     string
	size     int64

	buf []byte
	pos int64 // of buf
}

func (f *pinFile) Name() string { return f.name }

func (f *pinFile) ReadAt(p []byte, off int64) (int, error) {
	if int64(len(p)) > scanBytes {
		return f.pin.ReadAt(f.base, p, off)
	}
	if off < f.pos || off+int64(len(p)) > f.pos+int64(len(f.buf)) {
		if f.buf == nil {
			f.buf = make([]byte, scanBytes)
		}
		f.pos, f.buf = off, f.buf[:max(min(scanBytes, f.size-off), 0)]
		if n, err := f.pin.ReadAt(f.base, f.buf, off); n < len(f.buf) {
			f.buf = f.buf[:n]
			return copy(p, f.buf), err
		}
	}
	n := copy(p, f.buf[off-f.pos:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// FileName is the name of a segment's file.
func FileName(base, generation int64) string { return segmentKey{base, generation}.fileName(logSuffix) }
