package node

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// authenticateLater makes clientv3.New return without a token: with a user it
// would wait for etcd's, and a node could not start while etcd is away. The
// client takes a token when etcd first asks for one.
func authenticateLater() grpc.DialOption {
	var asked atomic.Bool
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if method == "/etcdserverpb.Auth/Authenticate" && !asked.Swap(true) {
			return rpctypes.ErrGRPCAuthNotEnabled
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	})
}

// warnOfCertificate says that the client certificate for etcd has expired, or
// will do so within a day. It is read again for each connection: a new file is
// enough.
func (n *Node) warnOfCertificate() {
	file := n.cfg.Etcd.Cert
	if file == "" {
		return
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return // DialEtcd has read it
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return
	}
	const do = "put a new certificate and key in their files; the node need not be restarted"
	switch left := cert.NotAfter.Sub(n.now()); {
	case left < 0:
		n.log.Error("the client certificate for etcd has expired: etcd will not let this node in", "file", file, "not_after", cert.NotAfter, "do", do)
	case left < 24*time.Hour:
		n.log.Warn("the client certificate for etcd expires within a day", "file", file, "not_after", cert.NotAfter, "do", do)
	}
}
