package node

import (
	"net"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/httpgateway"
)

// openHTTPGateway makes the services of the HTTP port.
func (n *Node) openHTTPGateway() (err error) {
	n.http, err = httpgateway.New(httpgateway.Options{
		Backend: httpBackend{backend{n}, operator{n}}, Kafka: n.kafkaLns[0].Advertised, Ready: n.readiness,
		Logger: n.log.With("door", "http gateway"),
		Limits: httpgateway.Limits{
			MaxRequestBytes: n.cfg.HTTPMaxRequestBytes, MaxRequests: n.cfg.HTTPMaxRequests,
			AllowedHosts: n.cfg.HTTPAllowedHosts, AllowedOrigins: n.cfg.HTTPAllowedOrigins,
		},
	})
	if err != nil {
		return err
	}
	n.onClose("HTTP gateway", n.http.Close)
	return nil
}

// httpBackend is the node as its HTTP gateway sees it.
type httpBackend struct {
	backend
	operator
}

var _ httpgateway.Backend = httpBackend{}

// Connect implements httpgateway.Backend.
func (b httpBackend) Connect() net.Conn { return b.backend.n.kafka.Connect() }

// Peer implements httpgateway.Backend.
func (b httpBackend) Peer(node int32) httpgateway.Peer {
	n := b.backend.n
	known, _ := n.peers.node(node)
	return httpgateway.Peer{HTTP: known.HTTP, Alive: n.alive(node), Fit: known.State == cluster.StateReady && known.SlowDiskMS == 0}
}
