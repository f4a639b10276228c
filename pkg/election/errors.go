package election

import (
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Why a session or a leadership is over: the cause of its context.
var (
	// ErrClosed says that the session was closed by its owner.
	ErrClosed = errors.New("session closed")
	// ErrExpired says that the deadline passed without a renewal.
	ErrExpired = errors.New("session expired: not renewed before its deadline")
	// ErrLeaseGone says that etcd does not know the lease any more: it was
	// revoked, or expired there first.
	ErrLeaseGone = errors.New("session over: etcd has no such lease")
	// ErrKeyLost says that the winner's key was deleted or overwritten by
	// somebody else.
	ErrKeyLost = errors.New("leadership lost: its key was deleted or overwritten")
	// ErrResigned says that Resign was called.
	ErrResigned = errors.New("leadership resigned")
)

var (
	// ErrUnhealthy is returned by NewSession while Healthy says no.
	ErrUnhealthy = errors.New("not healthy, so no session")
	// ErrNotRegistered is returned by Update for a key that does not exist.
	ErrNotRegistered = errors.New("key is not registered")
	// ErrBusy is returned by Campaign while the session is already a candidate
	// of the same election.
	ErrBusy = errors.New("session is already a candidate of this election")
)

// HeldError says that a key belongs to somebody else.
type HeldError struct {
	Key   string
	Value []byte           // what is in it, for the operator's eyes
	Lease clientv3.LeaseID // 0: held by no lease, so it never expires
}

func (e *HeldError) Error() string {
	value := e.Value
	const most = 1024
	if len(value) > most {
		value = value[:most]
	}
	return fmt.Sprintf("%s is held by lease %x: %s", e.Key, int64(e.Lease), value)
}
