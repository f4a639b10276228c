package kafkagateway

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	heartbeat      = 300 * time.Millisecond // between questions to a node
	heartbeatLimit = 2 * time.Second        // that its answer may take
	seedPause      = 500 * time.Millisecond // between rounds of looking for nodes
	forgetAfter    = 15 * time.Minute       // a node that nobody has named since

	gatewayClient = "raftsman-gateway"
)

// member is a node, under view.mu.
type member struct {
	id       int32
	addr     string
	up       bool               // it answers
	versions map[int16][2]int16 // of its APIs; nil: unknown
	lists    []int32            // the nodes that it knows
	seen     time.Time          // when a node named it last
	told     bool               // that another one is in its place
}

var errElsewhere = errors.New("another node answers at its address")

// watch asks a node all the time whether it is there, until ctx ends or nobody
// knows it any more.
func (v *view) watch(ctx context.Context, m *member) {
	for ctx.Err() == nil {
		v.mu.Lock()
		addr := m.addr
		v.mu.Unlock()
		err := v.follow(ctx, m, addr)
		if ctx.Err() != nil {
			return
		}
		if v.lost(m, err) {
			return
		}
		pause(ctx, heartbeat)
	}
}

// follow stays connected to a node and returns why that has ended. Whoever answers
// has to be that node: nodes that were started again may have one another's address.
func (v *view) follow(ctx context.Context, m *member, addr string) error {
	l := v.g.dial(m.id, addr)
	defer l.close()
	versions, err := v.askVersions(ctx, l)
	if err != nil {
		return err
	}
	if err := v.confirm(ctx, l, m.id); err != nil {
		return err
	}
	for {
		hctx, cancel := context.WithTimeout(ctx, heartbeatLimit)
		resp, err := v.g.ask(hctx, l, metadataRequest(), gatewayClient)
		cancel()
		if err != nil {
			return err
		}
		r := resp.(*kmsg.MetadataResponse)
		if !v.brokers(r.ClusterID, r.Brokers) {
			return errors.New("it belongs to another cluster")
		}
		v.heard(m, addr, versions, r)
		pause(ctx, heartbeat)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// confirm asks a node for its number: it describes itself under no other.
func (v *view) confirm(ctx context.Context, l *link, id int32) error {
	ctx, cancel := context.WithTimeout(ctx, heartbeatLimit)
	defer cancel()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version = 1
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(id))
	r.ConfigNames = []string{"broker.id"}
	req.Resources = append(req.Resources, r)
	resp, err := v.g.ask(ctx, l, req, gatewayClient)
	if err != nil {
		return err
	}
	told := resp.(*kmsg.DescribeConfigsResponse).Resources
	if len(told) != 1 || told[0].ErrorCode != 0 {
		return fmt.Errorf("%w, %s", errElsewhere, l.addr)
	}
	return nil
}

func (v *view) askVersions(ctx context.Context, l *link) (map[int16][2]int16, error) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatLimit)
	defer cancel()
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 3, "raftsman-gateway", "1"
	resp, err := v.g.ask(ctx, l, req, gatewayClient)
	if err != nil {
		return nil, err
	}
	r := resp.(*kmsg.ApiVersionsResponse)
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
		return nil, err
	}
	versions := make(map[int16][2]int16, len(r.ApiKeys))
	for _, k := range r.ApiKeys {
		versions[k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
	}
	return versions, nil
}

// heard notes that a node has answered.
func (v *view) heard(m *member, addr string, versions map[int16][2]int16, r *kmsg.MetadataResponse) {
	lists := make([]int32, 0, len(r.Brokers))
	for i := range r.Brokers {
		lists = append(lists, r.Brokers[i].NodeID)
	}
	v.mu.Lock()
	came := !m.up
	m.up, m.addr, m.versions, m.lists, m.told = true, addr, versions, lists, false
	v.chooseHomeLocked()
	if came {
		v.notifyLocked()
	}
	v.mu.Unlock()
	if came {
		v.g.log.Info("node is there", "node", m.id, "addr", addr)
	}
}

// lost notes that a node does not answer, and cuts what clients have under way
// there. It returns true when the node is forgotten.
func (v *view) lost(m *member, err error) (gone bool) {
	v.mu.Lock()
	was := m.up
	m.up, m.lists = false, nil
	elsewhere := errors.Is(err, errElsewhere) && !m.told
	m.told = m.told || elsewhere
	if gone = time.Since(m.seen) > forgetAfter; gone {
		delete(v.members, m.id)
	}
	v.chooseHomeLocked()
	if was {
		v.notifyLocked()
	}
	v.mu.Unlock()
	if elsewhere && !was {
		v.g.log.Warn("node is not where it should be; look at what it and the other advertise to Kafka clients", "node", m.id, "err", err)
	}
	if was {
		v.g.log.Warn("node is lost", "node", m.id, "err", err)
		v.closeControl(m.id)
		v.g.cut(m.id)
	}
	return gone
}

// seek looks for nodes at the given addresses as long as none is there.
func (v *view) seek(ctx context.Context) {
	told := false
	for ctx.Err() == nil {
		changed := v.changes()
		if _, ok := v.home(); ok {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		addrs, err := v.g.opts.Seeds(ctx)
		if err != nil && !told {
			v.g.log.Warn("can't find out where the nodes are, trying on", "err", err)
		}
		told = err != nil
		var wg sync.WaitGroup
		for _, addr := range addrs {
			wg.Go(func() { v.knock(ctx, addr) })
		}
		wg.Wait()
		if len(addrs) > 0 && len(v.up()) == 0 {
			v.g.log.Debug("looking for nodes", "addrs", addrs)
		}
		pause(ctx, seedPause)
	}
}

// knock asks at an address for the nodes.
func (v *view) knock(ctx context.Context, addr string) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatLimit)
	defer cancel()
	l := v.g.dial(-1, addr)
	defer l.close()
	resp, err := v.g.ask(ctx, l, metadataRequest(), gatewayClient)
	if err != nil {
		v.g.log.Debug("no node answers", "addr", addr, "err", err)
		return
	}
	r := resp.(*kmsg.MetadataResponse)
	v.brokers(r.ClusterID, r.Brokers)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
