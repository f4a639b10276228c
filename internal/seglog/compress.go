package seglog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// xerialBlock is how much the Java clients put into one block.
const xerialBlock = 32 << 10

var (
	gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}
	lz4Writers  = sync.Pool{New: func() any {
		w := lz4.NewWriter(io.Discard)
		if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb)); err != nil {
			panic("BUG: lz4 options: " + err.Error())
		}
		return w
	}}
	zstdWriters = sync.Pool{New: func() any {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		if err != nil {
			panic("BUG: zstd options: " + err.Error())
		}
		return e
	}}
)

// appendCompressed appends src to dst, compressed as before was: the same codec,
// and of snappy's two framings the same. The result depends on nothing else.
func appendCompressed(dst []byte, codec int, src, before []byte) ([]byte, error) {
	switch codec {
	case codecNone:
		return append(dst, src...), nil
	case codecGzip:
		w := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(w)
		return compressWith(w, dst, src)
	case codecSnappy:
		if bytes.HasPrefix(before, xerial) && len(before) >= xerialHeader {
			return appendXerial(append(dst, before[:xerialHeader]...), src), nil
		}
		return append(dst, snappy.Encode(nil, src)...), nil
	case codecLZ4:
		w := lz4Writers.Get().(*lz4.Writer)
		defer lz4Writers.Put(w)
		return compressWith(w, dst, src)
	case codecZstd:
		e := zstdWriters.Get().(*zstd.Encoder)
		defer zstdWriters.Put(e)
		return e.EncodeAll(src, dst), nil
	}
	return nil, fmt.Errorf("%w: %d", ErrUnknownCodec, codec)
}

type resetWriter interface {
	io.WriteCloser
	Reset(io.Writer)
}

func compressWith(w resetWriter, dst, src []byte) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	if _, err := w.Write(src); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func appendXerial(dst, src []byte) []byte {
	for len(src) > 0 {
		n := min(len(src), xerialBlock)
		block := snappy.Encode(nil, src[:n])
		dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(block))), block...)
		src = src[n:]
	}
	return dst
}
