package httpgateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/raftsman/raftsman/api/raftsman/v1/raftsmanv1connect"
)

const (
	peerDial   = 2 * time.Second
	peerPing   = 2 * time.Second // a connection without a word is tried
	penalty    = 5 * time.Second // a node that was slow or failed is asked last for so long
	firstReply = 3 * time.Second // a read that takes longer to begin goes elsewhere
)

// peers are the other nodes' gateways.
type peers struct {
	backend   Backend
	transport *http.Transport
	client    *http.Client
	turn      atomic.Uint32

	mu     sync.Mutex
	barred map[int32]time.Time // until then it is asked last
}

func newPeers(b Backend) *peers {
	t := newTransport()
	return &peers{backend: b, transport: t, client: &http.Client{Transport: t}, barred: make(map[int32]time.Time)}
}

// newTransport speaks cleartext HTTP/2: many requests on one connection, streams
// and trailers.
func newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols:   protocols,
		HTTP2:       &http.HTTP2Config{SendPingTimeout: peerPing, PingTimeout: peerPing},
		DialContext: (&net.Dialer{Timeout: peerDial}).DialContext, IdleConnTimeout: time.Minute, DisableCompression: true,
	}
}

func (p *peers) close() { p.transport.CloseIdleConnections() }

// bar has a node asked last for a while.
func (p *peers) bar(node int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.barred[node] = time.Now().Add(penalty)
}

func (p *peers) isBarred(node int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	until, ok := p.barred[node]
	if ok && time.Now().After(until) {
		delete(p.barred, node)
		return false
	}
	return ok
}

// choose picks one of some nodes with a replica in sync: this one if it is among
// them, else one after the other; those that are about to go, slow, or have just
// failed only if there is no other. 0: none can be reached.
func (p *peers) choose(inSync []int32, mayForward bool) int32 {
	if self := p.backend.NodeID(); slices.Contains(inSync, self) && !p.isBarred(self) {
		return self
	}
	if !mayForward {
		return 0
	}
	var good, poor []int32
	for _, node := range inSync {
		switch peer := p.backend.Peer(node); {
		case !peer.Alive || peer.HTTP == "":
		case peer.Fit && !p.isBarred(node):
			good = append(good, node)
		default:
			poor = append(poor, node)
		}
	}
	if len(good) == 0 {
		good = poor
	}
	if len(good) == 0 {
		return 0
	}
	return good[int(p.turn.Add(1)%uint32(len(good)))]
}

// records is the service of another node.
func (p *peers) records(node int32) (raftsmanv1connect.RecordServiceClient, error) {
	peer := p.backend.Peer(node)
	if peer.HTTP == "" {
		return nil, fmt.Errorf("the HTTP address of node %d is not known", node)
	}
	return raftsmanv1connect.NewRecordServiceClient(p.client, "http://"+peer.HTTP), nil
}

// whileAlive returns a context that ends with ctx, and when a node does not answer
// any more.
func (p *peers) whileAlive(ctx context.Context, node int32) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() { // ends with ctx, which its caller ends
		for {
			changed := p.backend.TopicsChanged()
			if !p.backend.Peer(node).Alive {
				cancel(fmt.Errorf("node %d does not answer any more", node))
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// forwarded prepares a request for another node.
func forwarded[T any](msg *T, hops int) *connect.Request[T] {
	req := connect.NewRequest(msg)
	req.Header().Set(HeaderHops, strconv.Itoa(hops+1))
	return req
}

// traced tells whether anything may have been sent.
func traced(ctx context.Context) (context.Context, *atomic.Bool) {
	sent := new(atomic.Bool)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }}), sent
}

// final says that a node has judged the request itself: another one would say the
// same.
func final(err error) bool {
	var e *connect.Error
	if !errors.As(err, &e) || !connect.IsWireError(err) {
		return false
	}
	switch e.Code() {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange, connect.CodePermissionDenied, connect.CodeFailedPrecondition,
		connect.CodeAlreadyExists, connect.CodeUnimplemented:
		return true
	}
	return false
}
