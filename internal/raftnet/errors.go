package raftnet

import (
	"errors"
	"fmt"
)

// Errors of calls, to be compared with errors.Is.
var (
	// ErrClosed: the Net or the Transport was closed.
	ErrClosed = errors.New("raftnet: closed")
	// ErrInterrupted: Transport.Interrupt ended the call.
	ErrInterrupted = errors.New("raftnet: interrupted")
	// ErrNodeDown: there is no connection to the node, or it does not answer pings.
	ErrNodeDown = errors.New("raftnet: node is down")
	// ErrUnknownNode: the resolver does not list the node.
	ErrUnknownNode = errors.New("raftnet: unknown node")
	// ErrUnknownReplica: the resolver does not know the replica, or the node
	// that should hold it does not have it open.
	ErrUnknownReplica = errors.New("raftnet: unknown replica")
	// ErrRemoved: the replica was removed from the group while the call waited.
	ErrRemoved = errors.New("raftnet: the replica was removed")
	// ErrBusy: a queue on the way, here or there, is full.
	ErrBusy = errors.New("raftnet: busy")
	// ErrBroken: the connection broke during the call; whether the request was
	// handled is not known.
	ErrBroken = errors.New("raftnet: connection broke")
	// ErrTimeout: no reply in time; whether the request was handled is not known.
	ErrTimeout = errors.New("raftnet: no reply in time")
	// ErrUnhealthy: Options.Healthy is false here.
	ErrUnhealthy = errors.New("raftnet: this node is not healthy")
	// ErrNoHandler: the node has no handler for the message's kind.
	ErrNoHandler = errors.New("raftnet: no handler for this kind of message")
)

// RemoteError is what the other side's handler or raft answered.
type RemoteError struct{ Text string }

func (e *RemoteError) Error() string { return "remote: " + e.Text }

// Codes of error replies.
const (
	codeUnknownReplica byte = 1 + iota
	codeBusy
	codeBadRequest
	codeRemote
	codeNoHandler
)

// maxErrorText bounds the text of an error reply.
const maxErrorText = 1024

func decodeError(payload []byte) error {
	if len(payload) == 0 {
		return &RemoteError{Text: "unspecified error"}
	}
	text := string(payload[1:min(len(payload), 1+maxErrorText)])
	switch payload[0] {
	case codeUnknownReplica:
		return ErrUnknownReplica
	case codeBusy:
		return ErrBusy
	case codeNoHandler:
		return ErrNoHandler
	case codeBadRequest:
		return fmt.Errorf("raftnet: the other side could not read the request: %s", text)
	}
	return &RemoteError{Text: text}
}
