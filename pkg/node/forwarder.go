package node

import (
	"context"
	"net"

	"github.com/raftsman/raftsman/internal/kafka"
	"github.com/raftsman/raftsman/internal/kafkagateway"
)

// openForwarder makes the Kafka gateway, which reaches this node as all others
// through its first Kafka listener.
func (n *Node) openForwarder() (err error) {
	if n.forwardLn == nil {
		return nil
	}
	n.forwarder, err = kafkagateway.New(kafkagateway.Options{
		Listeners: []kafka.Listener{*n.forwardLn}, Seeds: n.kafkaAddresses, Home: n.ID,
		Logger: n.log.With("door", "kafka gateway"), Registerer: n.cfg.Registerer,
		Limits: kafka.Limits{
			MaxMessageBytes:  int(n.cfg.MessageMaxBytes),
			MaxRequestMemory: n.cfg.KafkaMaxRequestMemory, MaxResponseMemory: n.cfg.KafkaMaxResponseMemory,
		},
	})
	return err
}

// kafkaAddresses are those of all nodes that this one knows, its own first.
func (n *Node) kafkaAddresses(context.Context) ([]string, error) {
	addrs := []string{n.kafkaLns[0].Advertised}
	for _, other := range n.peers.all() {
		if other.Node != n.ID() && other.Kafka != "" {
			addrs = append(addrs, other.Kafka)
		}
	}
	return addrs, nil
}

// Advertised is the address that others are told of a port that is bound. Empty is
// the bound address; "auto", or a bound address that is unspecified, is the first
// address of this host that is not loopback. Port 0 stands for the bound port.
func Advertised(want string, bound net.Addr) (string, error) { return advertised(want, bound) }
