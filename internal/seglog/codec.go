package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// MaxRecordsBytes bounds what the records of one batch may decompress to.
const MaxRecordsBytes = 128 << 20

const (
	codecNone = iota
	codecGzip
	codecSnappy
	codecLZ4
	codecZstd
)

// Decoders and buffers are pooled for the process: they carry no state from
// one use to the next.
var (
	bufferPool = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}
	gzipPool   = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lz4Pool    = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	zstdPool   = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxRecordsBytes))
		if err != nil {
			panic("BUG: zstd options: " + err.Error())
		}
		return d
	}}
)

// pooledBuffer is the largest buffer that is kept for reuse.
const pooledBuffer = 4 << 20

func buffer() *[]byte { return bufferPool.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) > pooledBuffer {
		return
	}
	*b = (*b)[:0]
	bufferPool.Put(b)
}

// decompress returns at most MaxRecordsBytes; give them back with putBuffer.
func decompress(codec int, src []byte) (*[]byte, error) {
	return decompressUpTo(codec, src, MaxRecordsBytes)
}

func decompressUpTo(codec int, src []byte, limit int) (*[]byte, error) {
	dst := buffer()
	err := decompressTo(dst, codec, src, limit)
	if err == nil && len(*dst) > limit {
		err = ErrTooLarge
	}
	if err == nil {
		return dst, nil
	}
	putBuffer(dst)
	if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrUnknownCodec) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: decompress: %w", ErrCorrupt, err)
}

func decompressTo(dst *[]byte, codec int, src []byte, limit int) (err error) {
	switch codec {
	case codecGzip:
		r := gzipPool.Get().(*gzip.Reader)
		defer gzipPool.Put(r)
		if err := r.Reset(bytes.NewReader(src)); err != nil {
			return err
		}
		return readAll(dst, r, limit)
	case codecSnappy:
		return unsnappy(dst, src, limit)
	case codecLZ4:
		r := lz4Pool.Get().(*lz4.Reader)
		defer lz4Pool.Put(r)
		r.Reset(bytes.NewReader(src))
		return readAll(dst, r, limit)
	case codecZstd:
		d := zstdPool.Get().(*zstd.Decoder)
		defer zstdPool.Put(d)
		*dst, err = d.DecodeAll(src, (*dst)[:0])
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			return ErrTooLarge
		}
		return err
	}
	return fmt.Errorf("%w: %d", ErrUnknownCodec, codec)
}

func readAll(dst *[]byte, r io.Reader, limit int) error {
	p := (*dst)[:0]
	defer func() { *dst = p }()
	for {
		if len(p) == cap(p) {
			p = append(make([]byte, 0, min(2*cap(p)+512, limit+1)), p...)
		}
		n, err := r.Read(p[len(p):cap(p)])
		p = p[:len(p)+n]
		if len(p) > limit {
			return ErrTooLarge
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// xerial is how the Java clients begin their snappy data: blocks follow, each
// after its length. Other clients send one bare block.
var xerial = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeader = 16 // magic, version, compatible version

func unsnappy(dst *[]byte, src []byte, limit int) error {
	*dst = (*dst)[:0]
	if !bytes.HasPrefix(src, xerial) {
		return unsnappyBlock(dst, src, limit)
	}
	if len(src) < xerialHeader {
		return io.ErrUnexpectedEOF
	}
	src = src[xerialHeader:]
	for len(src) > 0 {
		if len(src) < 4 {
			return io.ErrUnexpectedEOF
		}
		n := int64(binary.BigEndian.Uint32(src))
		src = src[4:]
		if n > int64(len(src)) {
			return io.ErrUnexpectedEOF
		}
		if err := unsnappyBlock(dst, src[:n], limit); err != nil {
			return err
		}
		src = src[n:]
	}
	return nil
}

// unsnappyBlock appends one decoded block to dst.
func unsnappyBlock(dst *[]byte, block []byte, limit int) error {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return err
	}
	have := len(*dst)
	if n > limit-have {
		return ErrTooLarge
	}
	// A block can't grow by more than about 22 times (a copy of 64 bytes takes
	// three): a length beyond that lies, and is not allocated.
	if n > 64*len(block) {
		return snappy.ErrCorrupt
	}
	p := *dst
	if cap(p)-have < n {
		p = append(make([]byte, 0, max(2*cap(p), have+n)), p...)
	}
	out, err := snappy.Decode(p[have:have+n], block)
	if err != nil {
		return err
	}
	if len(out) > 0 && &out[0] != &p[have : have+1][0] {
		return snappy.ErrCorrupt // decoded elsewhere: can't happen with room for n
	}
	*dst = p[:have+len(out)]
	return nil
}
