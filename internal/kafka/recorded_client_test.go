package kafka_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// client is a connection and what is expected of it: each request is answered, in
// order, or the connection is closed by the first that is no request.
type client struct {
	nc      net.Conn
	news    chan struct{} // something below has changed
	stream  []byte        // sent, and no whole frame yet
	ended   chan struct{} // the reader has ended
	holding time.Time     // since when it is held, for an answer that is late

	mu       sync.Mutex
	asked    []asked // not answered yet
	bad      bool    // what was sent last is no request: the server hangs up
	muted    bool    // a request without an answer was sent, whose error hangs up
	closed   bool
	err      error
	received int
	got      []kmsg.Response // since last asked for
}

type asked struct {
	req         kmsg.Request
	frame       []byte
	correlation int32
	wait        time.Duration // what it may wait for others, on top
}

func dial(addr string) (*client, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{nc: nc, news: make(chan struct{}, 1), ended: make(chan struct{})}
	go c.read()
	return c, nil
}

func (c *client) read() {
	defer close(c.ended)
	for {
		b, err := readFrame(c.nc)
		c.mu.Lock()
		switch {
		case err != nil:
			c.closed = true
			if len(c.asked) > 0 && !c.bad && !c.muted && c.err == nil {
				c.err = fmt.Errorf("%s version %d: the connection was closed: %w", kmsg.NameForKey(c.asked[0].req.Key()), c.asked[0].req.GetVersion(), err)
			}
		case len(c.asked) == 0:
			c.err = fmt.Errorf("an answer of %d bytes to nothing", len(b))
		default:
			a := c.asked[0]
			c.asked = c.asked[1:]
			c.received += len(b)
			resp, err := parseResponse(a.req, b, a.correlation)
			if err != nil && c.err == nil {
				c.err = fmt.Errorf("%w; the request was %x", err, a.frame)
			}
			c.got = append(c.got, resp)
		}
		c.mu.Unlock()
		select {
		case c.news <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// expect notes the requests in what is about to be sent, cut into frames as the
// server cuts them.
func (c *client) expect(b []byte, wait func(kmsg.Request) time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream = append(c.stream, b...)
	for !c.bad && len(c.stream) >= 4 {
		n := int64(int32(binary.BigEndian.Uint32(c.stream)))
		if n < 10 || n > 100<<20 {
			c.bad = true
			return
		}
		if len(c.stream) < 8 {
			return
		}
		key, version := int16(binary.BigEndian.Uint16(c.stream[4:])), int16(binary.BigEndian.Uint16(c.stream[6:]))
		at := slices.IndexFunc(kafka.APIs(), func(a kafka.API) bool { return a.Key == key })
		if at < 0 || key != 0 && n > 8<<20 || key != 18 && (version < kafka.APIs()[at].Min || version > kafka.APIs()[at].Max) {
			c.bad = true
			return
		}
		if int64(len(c.stream)) < 4+n {
			return
		}
		frame := slices.Clone(c.stream[4 : 4+n])
		c.stream = c.stream[4+n:]
		req, _, ok := kafka.DecodeFrame(frame)
		if key == 18 && version > kafka.APIs()[at].Max || key == 18 && version < 0 {
			// In another version than we know it is answered in version 0.
			req, ok = kmsg.NewPtrApiVersionsRequest(), int(int16(binary.BigEndian.Uint16(frame[8:]))) <= len(frame)-10
		}
		switch p, produces := req.(*kmsg.ProduceRequest); {
		case !ok:
			c.bad = true
		case produces && p.Acks == 0:
			c.muted = true
		default:
			c.asked = append(c.asked, asked{req, frame, int32(binary.BigEndian.Uint32(frame[4:])), wait(req)})
		}
	}
}

// send sends bytes that expect has been told of.
func (c *client) send(b []byte) error {
	c.nc.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.nc.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("nothing was read for %v", patience)
	}
	return nil // closed: the reader says whether it may be
}

// finish ends what is sent. Behind half a frame the server then hangs up.
func (c *client) finish() {
	c.mu.Lock()
	half := len(c.stream) > 0
	c.bad = c.bad || half
	c.mu.Unlock()
	if half {
		_ = c.nc.(*net.TCPConn).CloseWrite() // closed already: so much the better
	}
}

// settled says whether there is nothing to wait for, and what was wrong.
func (c *client) settled() (done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed || c.err != nil || len(c.asked) == 0 && !c.bad, c.err
}

// gone says whether the server has hung up.
func (c *client) gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// waits is how long what is unanswered may take by what it asks for.
func (c *client) waits() (d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.asked {
		d = max(d, a.wait)
	}
	return d
}

// await waits until everything is answered, or until limit.
func (c *client) await(limit time.Time) (done bool, err error) {
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	for {
		if done, err := c.settled(); done {
			return true, err
		}
		select {
		case <-c.news:
		case <-timer.C:
			return c.settled()
		}
	}
}

// answers are the responses that came since the last call.
func (c *client) answers() (got []kmsg.Response, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	got, bytes = c.got, c.received
	c.got, c.received = nil, 0
	return got, bytes
}

// overdue says what is unanswered.
func (c *client) overdue() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) == 0 {
		return errors.New("a connection whose last bytes are no request stays open")
	}
	a := c.asked[0]
	return fmt.Errorf("%s version %d: no answer; the request is %x", kmsg.NameForKey(a.req.Key()), a.req.GetVersion(), a.frame)
}

func (c *client) close() {
	c.nc.Close()
	<-c.ended
}

// ids are what the node has said and later requests name.
type ids struct {
	topic   [16]byte
	group   string
	member  string
	session []byte
}

// learn keeps what answers say.
func (x *ids) learn(got []kmsg.Response) {
	for _, resp := range got {
		switch r := resp.(type) {
		case *kmsg.JoinGroupResponse:
			if len(r.MemberID) == len(holdMember) {
				x.member = r.MemberID
			}
		case *kmsg.FetchResponse:
			if r.SessionID != 0 {
				x.session = binary.BigEndian.AppendUint32(nil, uint32(r.SessionID))
			}
		}
	}
}

// apply writes them into a request, without a change of its length.
func (x *ids) apply(frame []byte) []byte {
	frame = bytes.ReplaceAll(frame, []byte(holdTopicID), x.topic[:])
	frame = bytes.ReplaceAll(frame, []byte(holdGroup), []byte(x.group))
	if x.member != "" {
		frame = bytes.ReplaceAll(frame, []byte(holdMember), []byte(x.member))
	}
	if x.session != nil {
		frame = bytes.ReplaceAll(frame, []byte(holdSession), x.session)
	}
	return frame
}
