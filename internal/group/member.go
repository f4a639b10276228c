package group

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// waiter is a request that was not answered yet.
type waiter struct {
	ref     any
	version int16
}

// protocol is a way to assign partitions that a member offers, with what it
// tells the leader for that: for a consumer its subscription.
type protocol struct {
	name     string
	metadata []byte
}

// member is a member of a group.
type member struct {
	id       string
	instance *string // the group instance id; nil for a dynamic member
	client   Client

	rebalanceTimeout, sessionTimeout time.Duration

	protocols  []protocol // in the order of its preference, each name once
	assignment []byte     // in the present generation

	// fresh: it has not been in a generation yet. Its client may have given up
	// without a trace, so waiting does not keep it alive.
	fresh    bool
	unheard  bool // it is in the log, and this machine has not heard it yet
	unsynced bool // it has not sent the SyncGroup of this generation

	// joins and syncs are its parked requests. There is more than one only if
	// its client has sent the same again: all get the same answer.
	joins, syncs []waiter

	session timer
}

func (x *member) joining() bool { return len(x.joins) > 0 }

// waits says whether the member is waiting for us, so that it can't be expected
// to send a heartbeat.
func (x *member) waits() bool { return !x.fresh && (len(x.joins) > 0 || len(x.syncs) > 0) }

// metadata is what the member offers for a protocol; nil if it does not.
func (x *member) metadata(name string) []byte {
	for _, p := range x.protocols {
		if p.name == name {
			return p.metadata
		}
	}
	return nil
}

// offers says whether the member offered just these protocols.
func (x *member) offers(ps []protocol) bool {
	if len(x.protocols) != len(ps) {
		return false
	}
	for i, p := range x.protocols {
		if p.name != ps[i].name || !bytes.Equal(p.metadata, ps[i].metadata) {
			return false
		}
	}
	return true
}

// protocolsOf copies the protocols out of a request.
func protocolsOf(req *kmsg.JoinGroupRequest) []protocol {
	ps := make([]protocol, 0, len(req.Protocols))
	seen := make(map[string]struct{}, len(req.Protocols))
	for _, p := range req.Protocols {
		if _, twice := seen[p.Name]; twice {
			continue
		}
		seen[p.Name] = struct{}{}
		ps = append(ps, protocol{p.Name, bytes.Clone(p.Metadata)})
	}
	return ps
}

// joined is the answer to a JoinGroup.
type joined struct {
	err        *kerr.Error
	generation int32
	kind, name *string // protocol type and protocol
	leader     string
	member     string
	members    []kmsg.JoinGroupResponseMember // for the leader
	skip       bool                           // KIP-814: the leader must not assign
}

// joinError is an answer without a generation.
func joinError(err *kerr.Error, member string) joined {
	return joined{err: err, generation: -1, member: member}
}

func (j joined) reply(w waiter) Reply {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version, resp.ErrorCode = w.version, code(j.err)
	resp.Generation, resp.ProtocolType, resp.Protocol = j.generation, j.kind, j.name
	resp.LeaderID, resp.MemberID, resp.Members, resp.SkipAssignment = j.leader, j.member, j.members, j.skip
	return Reply{w.ref, resp}
}

// synced is the answer to a SyncGroup.
type synced struct {
	err        *kerr.Error
	kind, name *string
	assignment []byte
}

func (s synced) reply(w waiter) Reply {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version, resp.ErrorCode = w.version, code(s.err)
	resp.ProtocolType, resp.Protocol, resp.MemberAssignment = s.kind, s.name, s.assignment
	return Reply{w.ref, resp}
}
