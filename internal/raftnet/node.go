package raftnet

import (
	"context"
	"fmt"
)

// Handle has h answer messages of a kind >= FirstUserKind. It must be called
// before Start.
//
// Handlers of Control messages must be quick: those of one peer run one after
// the other, in the order sent. Handlers of Bulk messages may take long and run
// at once, up to bulkHandlers of a kind for each peer; handlers of one kind may
// call the peer back with another kind. h owns the payload; its reply must not
// be changed afterwards. Close waits for running handlers.
func (n *Net) Handle(kind byte, h func(from int32, payload []byte) (reply []byte, err error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case kind < FirstUserKind:
		panic(fmt.Sprintf("BUG: message kind %d is below %d", kind, FirstUserKind))
	case n.started:
		panic("BUG: Handle after Start")
	case n.handlers[kind] != nil:
		panic(fmt.Sprintf("BUG: message kind %d has a handler already", kind))
	}
	n.handlers[kind] = h
}

// Call sends a message to a node and returns what its handler replied, a
// *RemoteError if the handler failed. It fails at once when the node is down
// and when a Control queue is full. payload must not be changed afterwards,
// even if Call failed.
func (n *Net) Call(ctx context.Context, node int32, class Class, kind byte, payload []byte) ([]byte, error) {
	reply, err := n.call(ctx, node, class, kind, payload)
	if err != nil {
		return nil, fmt.Errorf("call node %d, kind %d: %w", node, kind, err)
	}
	return reply, nil
}

func (n *Net) call(ctx context.Context, node int32, class Class, kind byte, payload []byte) ([]byte, error) {
	if kind < FirstUserKind || class != Control && class != Bulk {
		return nil, fmt.Errorf("BUG: message of kind %d on class %s", kind, class)
	}
	p, err := n.peer(node)
	if err != nil {
		return nil, err
	}
	var c *conn
	if class == Bulk {
		c, err = p.bulkConn(ctx)
	} else {
		c, err = p.controlConn()
	}
	if err != nil {
		return nil, err
	}
	id := n.nextID.Add(1)
	f, err := simpleFrame(kind, 0, id, 0, 0, payload)
	if err != nil {
		return nil, err
	}
	return c.exchange(ctx, f, id, 0, true)
}

// Send sends a message to a node, without a reply and without knowing whether
// it arrives. It never blocks. payload must not be changed afterwards.
func (n *Net) Send(node int32, kind byte, payload []byte) {
	if kind < FirstUserKind {
		panic(fmt.Sprintf("BUG: message kind %d is below %d", kind, FirstUserKind))
	}
	p, ok := n.knownPeer(node)
	if !ok {
		return
	}
	c, err := p.controlConn()
	if err != nil {
		return
	}
	f, err := simpleFrame(kind, flagOneWay, n.nextID.Add(1), 0, 0, payload)
	if err != nil {
		return
	}
	if c.out.push(f, failFull, nil) != nil {
		f.release()
	}
}
