package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc/credentials"
)

// tellingTLS is TLS to etcd whose failures are told: the client itself says no
// more than that etcd did not answer in time.
type tellingTLS struct {
	credentials.TransportCredentials
	failed func(err error) // nil: it went well
}

func newTellingTLS(config *tls.Config, failed func(error)) credentials.TransportCredentials {
	return tellingTLS{credentials.NewTLS(config), failed}
}

func (t tellingTLS) Clone() credentials.TransportCredentials {
	return tellingTLS{t.TransportCredentials.Clone(), t.failed}
}

func (t tellingTLS) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := t.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		if ctx.Err() == nil {
			t.failed(err)
		}
		return conn, info, err
	}
	return &tellingConn{Conn: conn, failed: t.failed}, info, nil
}

// tellingConn hears of a client certificate's refusal: with TLS 1.3 that comes
// with the first read.
type tellingConn struct {
	net.Conn
	failed func(err error)
	once   sync.Once
}

func (c *tellingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "remote error": // an alert of TLS
		c.failed(err)
	case n > 0:
		c.once.Do(func() { c.failed(nil) })
	}
	return n, err
}

// handshakes logs each failure of TLS with etcd once, until it is another one or
// a connection went well.
func (n *Node) handshakes() func(error) {
	var mu sync.Mutex
	told := ""
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			told = ""
			return
		}
		what, _, _ := strings.Cut(err.Error(), "current time") // of a certificate that has expired
		if told == what {
			return
		}
		told = what
		n.log.Error("TLS with etcd failed: it is as good as away", "err", err,
			"do", "check --etcd-cacert, --etcd-cert and --etcd-key, and etcd's own certificate: who signed them, for which addresses, and until when")
	}
}
