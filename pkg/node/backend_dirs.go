package node

import (
	"cmp"
	"net"
	"slices"
	"strconv"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/kafka"
)

// LogDirs implements kafka.Administration.
func (b backend) LogDirs() []kafka.LogDir {
	n := b.n
	d := kafka.LogDir{Path: n.cfg.DataDir, Total: -1, Usable: n.space.free.Load()}
	if fs, ok := n.cfg.FS.(interface {
		Total(dir string) (uint64, error)
	}); ok {
		if total, err := fs.Total(n.cfg.DataDir); err == nil {
			d.Total = int64(min(total, 1<<62))
		}
	}
	newest := make(map[partitionID]*opened) // another one may be on its way out
	for _, o := range n.replicas.all() {
		if was := newest[o.id]; was == nil || o.replica > was.replica {
			newest[o.id] = o
		}
	}
	for _, o := range newest {
		d.Replicas = append(d.Replicas, kafka.LogDirReplica{
			TopicPartition: kafka.TopicPartition{Topic: o.topic, Index: o.id.index}, Size: o.p.Size(),
		})
	}
	slices.SortFunc(d.Replicas, func(x, y kafka.LogDirReplica) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Index, y.Index))
	})
	return []kafka.LogDir{d}
}

// Absent implements kafka.Administration.
func (b backend) Absent(listener string) []kafka.Broker {
	live := make(map[int32]bool)
	for _, l := range b.Brokers(listener) {
		live[l.ID] = true
	}
	var absent []kafka.Broker
	for _, node := range b.n.peers.all() {
		if !live[node.Node] {
			absent = append(absent, brokerOn(node, listener))
		}
	}
	return absent
}

// brokerOn is a node as clients of a listener see it; without a port if it has
// said none.
func brokerOn(node cluster.Node, listener string) kafka.Broker {
	addr, ok := node.Listeners[listener]
	if !ok {
		addr = node.Kafka
	}
	out := kafka.Broker{ID: node.Node, Rack: node.Rack}
	host, port, err := net.SplitHostPort(addr)
	if p, perr := strconv.ParseUint(port, 10, 16); err == nil && perr == nil {
		out.Host, out.Port = host, int32(p)
	}
	return out
}
