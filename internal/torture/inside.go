package torture

import (
	"context"
	"time"

	"github.com/raftsman/raftsman/pkg/node"
)

// Small files, so that a short run fills, rolls, recycles and removes many.
const (
	segmentBytes  = 256 << 10
	walFileSize   = 1 << 20
	walSizeLimit  = 16 << 20
	offsetsTopics = 4
)

// inside is a node in this process.
type inside struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done
}

func startInside(m *member, version string) (engine, error) {
	cfg := node.Config{
		NodeID: m.id, DataDir: m.dir, Cluster: clusterName, Rack: m.nodeRack, Version: version,
		Listeners: []node.KafkaListener{{Name: node.DefaultListener, Addr: m.kafka}}, HTTPAddr: m.web,
		PeerAddr: m.peer, PeerAdvertise: m.advertise, SessionTTL: sessionTTL, LeaderReturnDelay: -1,
		ReplicaSelector: node.ReadRack, SegmentBytes: segmentBytes, WAL: node.WAL{FileSize: walFileSize, SizeLimit: walSizeLimit},
		MinFreeDisk: -1, DrainTimeout: 5 * time.Second, Logger: m.logger,
		Groups: node.Groups{TopicPartitions: offsetsTopics, InitialRebalanceDelay: -1},
	}
	cfg.Etcd.Endpoints = []string{m.etcd}
	n, err := node.New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &inside{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		e.err = n.Run(ctx)
	}()
	return e, nil
}

func (e *inside) stop() error {
	e.cancel()
	<-e.done
	return e.err
}

func (e *inside) ended() error {
	select {
	case <-e.done:
		return e.err
	default:
		return nil
	}
}
