package kafka

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	readBuffer = 16 << 10
	frameStep  = 1 << 20 // allocated for a frame before its bytes have arrived
	minFrame   = 10      // key, version, correlation, client id
)

// badFrame is an error that is the peer's fault: it is logged and the
// connection is closed.
type badFrame struct{ reason string }

func (e *badFrame) Error() string { return e.reason }

func badFramef(format string, args ...any) error {
	return &badFrame{fmt.Sprintf(format, args...)}
}

var errStopped = errors.New("connection is draining")

// frameReader reads request frames of one connection.
type frameReader struct {
	nc   net.Conn
	br   *bufio.Reader
	conn *conn
}

func newFrameReader(c *conn) *frameReader {
	return &frameReader{nc: c.nc, br: bufio.NewReaderSize(c.nc, readBuffer), conn: c}
}

// next waits for a frame and returns its size and its API, which must be
// known; nothing but length, key and version has been read. Between frames
// the peer may be silent for the idle timeout, and longer while it waits for
// an answer.
func (r *frameReader) next() (size int, key, version int16, err error) {
	limits := &r.conn.srv.opts.Limits
	for {
		if err := r.deadline(limits.IdleTimeout); err != nil {
			return 0, 0, 0, err
		}
		_, err := r.br.Peek(4)
		if err == nil {
			break
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if r.conn.draining.Load() {
				return 0, 0, 0, errStopped
			}
			if r.br.Buffered() == 0 && !r.conn.queue.idle() {
				continue
			}
		}
		return 0, 0, 0, err
	}
	b, _ := r.br.Peek(4)
	n := int32(binary.BigEndian.Uint32(b))
	if n < minFrame || int64(n) > int64(limits.MaxRequestBytes) {
		return 0, 0, 0, badFramef("frame of %d bytes%s", n, foreign(b))
	}
	if r.br.Buffered() < 8 {
		if err := r.deadline(limits.StallTimeout); err != nil {
			return 0, 0, 0, err
		}
	}
	b, err = r.br.Peek(8)
	if err != nil {
		return 0, 0, 0, err
	}
	return int(n), int16(binary.BigEndian.Uint16(b[4:])), int16(binary.BigEndian.Uint16(b[6:])), nil
}

// foreign guesses who speaks when it isn't Kafka.
func foreign(b []byte) string {
	switch {
	case b[0] == 0x16 && b[1] == 3:
		return " (a TLS handshake on a plaintext listener?)"
	case string(b) == "GET " || string(b) == "POST" || string(b) == "HEAD" || string(b) == "PRI ":
		return " (an HTTP request on a Kafka listener?)"
	}
	return ""
}

func (r *frameReader) deadline(d time.Duration) error {
	if err := r.nc.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	// Draining is set before the deadline that goes with it: either this sees
	// it, or that deadline comes after the one above.
	if r.conn.draining.Load() {
		return errStopped
	}
	return nil
}

// body reads a frame of size bytes into dst, which is empty, and returns it.
// dst grows as bytes arrive.
func (r *frameReader) body(dst []byte, size int) ([]byte, error) {
	if _, err := r.br.Discard(4); err != nil {
		return dst, err
	}
	for len(dst) < size {
		if len(dst) == cap(dst) {
			grown := make([]byte, len(dst), min(size, max(2*len(dst), frameStep)))
			copy(grown, dst)
			dst = grown
		}
		end := min(size, cap(dst), len(dst)+frameStep)
		if r.br.Buffered() < end-len(dst) {
			if err := r.deadline(r.conn.srv.opts.Limits.StallTimeout); err != nil {
				return dst, err
			}
		}
		n, err := io.ReadFull(r.br, dst[len(dst):end])
		dst = dst[:len(dst)+n]
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = badFramef("frame of %d bytes ends after %d", size, len(dst))
			}
			return dst, err
		}
	}
	return dst, nil
}

// parseHeader splits a frame behind its header and checks the header's tags.
func parseHeader(frame []byte, flexible bool) (correlation int32, clientID, body []byte, err error) {
	correlation = int32(binary.BigEndian.Uint32(frame[4:]))
	n := int(int16(binary.BigEndian.Uint16(frame[8:])))
	body = frame[minFrame:]
	if n > len(body) {
		return 0, nil, nil, badFramef("client id of %d bytes in a frame of %d", n, len(frame))
	}
	if n > 0 {
		clientID, body = body[:n], body[n:]
	}
	if flexible {
		w := walker{src: body, flexible: true}
		if w.tags(nil); w.err != nil {
			return 0, nil, nil, badFramef("header tags: %v", w.err)
		}
		body = w.src
	}
	return correlation, clientID, body, nil
}

// decode checks a body's shape and decodes it.
func decode(a *api, version int16, flexible bool, body []byte) (kmsg.Request, error) {
	if err := checkShape(a.shape, body, version, flexible); err != nil {
		return nil, badFramef("%s version %d: %v", a.name, version, err)
	}
	req := a.newRequest()
	req.SetVersion(version)
	if err := req.ReadFrom(body); err != nil {
		return nil, badFramef("%s version %d: %v", a.name, version, err)
	}
	return req, nil
}

// millis turns a client's duration into ours, with a bound against overflow.
func millis(ms int32) time.Duration {
	return time.Duration(min(max(ms, 0), math.MaxInt32)) * time.Millisecond
}
