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
		return 0, 0, 0, r.cutShort(err)
	}
	b, _ := r.br.Peek(4)
	n := int32(binary.BigEndian.Uint32(b))
	if n < minFrame || int64(n) > int64(limits.MaxRequestBytes) {
		if reason := foreign(b); reason != "" {
			return 0, 0, 0, badFramef("%s", reason)
		}
		return 0, 0, 0, badFramef("frame of %d bytes, a request has %d to %d", n, minFrame, limits.MaxRequestBytes)
	}
	if r.br.Buffered() < 8 {
		if err := r.deadline(limits.StallTimeout); err != nil {
			return 0, 0, 0, err
		}
	}
	b, err = r.br.Peek(8)
	if err != nil {
		return 0, 0, 0, r.cutShort(err)
	}
	return int(n), int16(binary.BigEndian.Uint16(b[4:])), int16(binary.BigEndian.Uint16(b[6:])), nil
}

// cutShort says what a connection that ends within a frame's head did wrong.
func (r *frameReader) cutShort(err error) error {
	n := r.br.Buffered()
	switch {
	case n == 0:
		return err // between frames, as clients do
	case errors.Is(err, io.EOF):
		return badFramef("connection closed after %d bytes of a frame's head", n)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return badFramef("nothing came after %d bytes of a frame's head", n)
	}
	return err
}

// foreign guesses who speaks when it isn't Kafka, and says what to do.
func foreign(b []byte) string {
	switch string(b) {
	case "GET ", "POST", "HEAD", "PUT ", "DELE", "OPTI", "PATC", "CONN", "PRI ":
		return "an HTTP request on a Kafka listener: HTTP is served on --http-addr"
	case "SSH-":
		return "an SSH client on a Kafka listener"
	}
	if b[0] == 0x16 && b[1] == 3 {
		return "a TLS hello on a plain-text listener: set the client's security.protocol to PLAINTEXT, or connect to a listener with TLS"
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
		n, err := r.piece(dst[len(dst):end])
		dst = dst[:len(dst)+n]
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return dst, badFramef("connection closed after %d of a request's %d bytes", len(dst), size)
		case errors.Is(err, os.ErrDeadlineExceeded) && !r.conn.draining.Load():
			return dst, badFramef("request of %d bytes stalled after %d", size, len(dst))
		default:
			return dst, err
		}
	}
	return dst, nil
}

// piece fills p, which is at most frameStep long, within the stall timeout, or
// the contended one while others wait for the memory that this request holds.
func (r *frameReader) piece(p []byte) (n int, err error) {
	stall, contended := r.conn.srv.opts.Limits.StallTimeout, r.conn.srv.opts.Limits.ContendedTimeout
	begun := time.Now()
	for n < len(p) {
		if r.br.Buffered() == 0 {
			left := stall - time.Since(begun)
			if err := r.deadline(min(left, contended)); err != nil {
				return n, err
			}
		}
		k, err := r.br.Read(p[n:])
		n += k
		if errors.Is(err, os.ErrDeadlineExceeded) && !r.conn.draining.Load() {
			took := time.Since(begun)
			if took < stall && (took < contended || !r.conn.srv.requests.contended()) {
				continue
			}
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
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
		w := walker{src: body, flexible: true, most: maxElements}
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
