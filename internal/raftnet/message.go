package raftnet

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/raft"
)

// entryMeta is the size of an entry's fixed fields in AppendEntries.
const entryMeta = 8 + 8 + 8 + 1 + 4 + 4

// isHeartbeat tells raft's heartbeats from appends without entries, by the
// fields that raft itself goes by.
func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return len(r.Entries) == 0 && r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && r.LeaderCommitIndex == 0
}

func encodeAppend(r *raft.AppendEntriesRequest, id, dst, src uint64) (*frame, error) {
	scratch := 1 + 4*8 + 4 + len(r.Entries)*entryMeta
	for _, e := range r.Entries {
		scratch += scratchFor(e.Data) + scratchFor(e.Extensions)
	}
	f := newFrame(scratch)
	f.u8(byte(r.ProtocolVersion))
	f.u64(r.Term)
	f.u64(r.PrevLogEntry)
	f.u64(r.PrevLogTerm)
	f.u64(r.LeaderCommitIndex)
	f.u32(uint32(len(r.Entries)))
	for _, e := range r.Entries {
		f.u64(e.Index)
		f.u64(e.Term)
		if e.AppendedAt.IsZero() {
			f.u64(0)
		} else {
			f.u64(uint64(e.AppendedAt.UnixNano()))
		}
		f.u8(byte(e.Type))
		f.u32(uint32(len(e.Data)))
		f.u32(uint32(len(e.Extensions)))
	}
	for _, e := range r.Entries {
		f.data(e.Data)
		f.data(e.Extensions)
	}
	return finished(f, f.finish(kindAppendEntries, 0, id, dst, src))
}

func finished(f *frame, err error) (*frame, error) {
	if err != nil {
		f.release()
		return nil, err
	}
	return f, nil
}

func encodeVote(r *raft.RequestVoteRequest, id, dst, src uint64) (*frame, error) {
	f := newFrame(1 + 3*8 + 1)
	f.u8(byte(r.ProtocolVersion))
	f.u64(r.Term)
	f.u64(r.LastLogIndex)
	f.u64(r.LastLogTerm)
	f.flag(r.LeadershipTransfer)
	return finished(f, f.finish(kindRequestVote, 0, id, dst, src))
}

func encodePreVote(r *raft.RequestPreVoteRequest, id, dst, src uint64) (*frame, error) {
	f := newFrame(1 + 3*8)
	f.u8(byte(r.ProtocolVersion))
	f.u64(r.Term)
	f.u64(r.LastLogIndex)
	f.u64(r.LastLogTerm)
	return finished(f, f.finish(kindRequestPreVote, 0, id, dst, src))
}

func encodeTimeoutNow(r *raft.TimeoutNowRequest, id, dst, src uint64) (*frame, error) {
	f := newFrame(1)
	f.u8(byte(r.ProtocolVersion))
	return finished(f, f.finish(kindTimeoutNow, 0, id, dst, src))
}

func encodeInstall(r *raft.InstallSnapshotRequest, manifest []byte, id, dst, src uint64) (*frame, error) {
	f := newFrame(2 + 4*8 + 2*4 + scratchFor(r.Peers) + scratchFor(r.Configuration) + scratchFor(manifest))
	f.u8(byte(r.ProtocolVersion))
	f.u8(byte(r.SnapshotVersion))
	f.u64(r.Term)
	f.u64(r.LastLogIndex)
	f.u64(r.LastLogTerm)
	f.u64(r.ConfigurationIndex)
	f.u32(uint32(len(r.Peers)))
	f.u32(uint32(len(r.Configuration)))
	f.data(r.Peers)
	f.data(r.Configuration)
	f.data(manifest)
	return finished(f, f.finish(kindInstallSnapshot, 0, id, dst, src))
}

// raftHeader rebuilds what does not travel: raft's server id and address are
// the decimal source replica id.
func raftHeader(version byte, src uint64) raft.RPCHeader {
	id := strconv.AppendUint(make([]byte, 0, 20), src, 10)
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(version), ID: id, Addr: id}
}

// decodeRequest turns a request's payload into a command for raft. The command
// aliases p. The second result is what the RPC's Reader shall read, nil if it has none.
func decodeRequest(kind byte, src uint64, p []byte) (cmd any, body []byte, err error) {
	c := cursor{b: p}
	switch kind {
	case kindAppendEntries:
		cmd, err = decodeAppend(&c, src)
	case kindRequestVote:
		r := &raft.RequestVoteRequest{RPCHeader: raftHeader(c.u8(), src), Term: c.u64(), LastLogIndex: c.u64(), LastLogTerm: c.u64()}
		r.LeadershipTransfer = c.u8() != 0
		cmd, err = r, c.end()
	case kindRequestPreVote:
		cmd = &raft.RequestPreVoteRequest{RPCHeader: raftHeader(c.u8(), src), Term: c.u64(), LastLogIndex: c.u64(), LastLogTerm: c.u64()}
		err = c.end()
	case kindTimeoutNow:
		cmd = &raft.TimeoutNowRequest{RPCHeader: raftHeader(c.u8(), src)}
		err = c.end()
	case kindInstallSnapshot:
		cmd, body, err = decodeInstall(&c, src)
	default:
		err = fmt.Errorf("kind %d is no raft request", kind)
	}
	return cmd, body, err
}

func decodeAppend(c *cursor, src uint64) (*raft.AppendEntriesRequest, error) {
	r := &raft.AppendEntriesRequest{
		RPCHeader: raftHeader(c.u8(), src), Term: c.u64(), PrevLogEntry: c.u64(), PrevLogTerm: c.u64(), LeaderCommitIndex: c.u64(),
	}
	count := int(c.u32())
	if c.bad || count > len(c.b)/entryMeta {
		return nil, errShort
	}
	if count == 0 {
		return r, c.end()
	}
	meta := cursor{b: c.take(count * entryMeta)}
	logs := make([]raft.Log, count)
	r.Entries = make([]*raft.Log, count)
	for i := range logs {
		e := &logs[i]
		e.Index, e.Term = meta.u64(), meta.u64()
		if at := int64(meta.u64()); at != 0 {
			e.AppendedAt = time.Unix(0, at)
		}
		e.Type = raft.LogType(meta.u8())
		if e.Index != r.PrevLogEntry+1+uint64(i) {
			return nil, fmt.Errorf("entry %d follows entry %d", e.Index, r.PrevLogEntry+uint64(i))
		}
		if n := int(meta.u32()); n > 0 {
			e.Data = c.take(n)
		}
		if n := int(meta.u32()); n > 0 {
			e.Extensions = c.take(n)
		}
		if c.bad {
			return nil, errShort
		}
		if e.Type == raft.LogConfiguration {
			if err := checkConfiguration(e.Data); err != nil {
				return nil, err
			}
		}
		r.Entries[i] = e
	}
	return r, c.end()
}

func decodeInstall(c *cursor, src uint64) (*raft.InstallSnapshotRequest, []byte, error) {
	r := &raft.InstallSnapshotRequest{
		RPCHeader: raftHeader(c.u8(), src), SnapshotVersion: raft.SnapshotVersion(c.u8()),
		Term: c.u64(), LastLogIndex: c.u64(), LastLogTerm: c.u64(), ConfigurationIndex: c.u64(),
	}
	peers, configuration := int(c.u32()), int(c.u32())
	r.Peers, r.Configuration = c.take(peers), c.take(configuration)
	if c.bad {
		return nil, nil, errShort
	}
	if r.SnapshotVersion > 0 {
		if err := checkConfiguration(r.Configuration); err != nil {
			return nil, nil, err
		}
	}
	r.Size = int64(len(c.b))
	return r, c.b, nil
}

// checkConfiguration refuses bytes on which raft.DecodeConfiguration would panic.
func checkConfiguration(b []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed raft configuration: %v", r)
		}
	}()
	raft.DecodeConfiguration(b)
	return nil
}

// encodeResponse is the reply to a request, from what raft answered.
func encodeResponse(req header, resp raft.RPCResponse) *frame {
	if resp.Error != nil {
		return errorFrame(req, codeRemote, resp.Error.Error())
	}
	f := newFrame(2 + 2*8)
	switch r := resp.Response.(type) {
	case *raft.AppendEntriesResponse:
		var flags byte
		if r.Success {
			flags |= 1
		}
		if r.NoRetryBackoff {
			flags |= 2
		}
		f.u8(byte(r.ProtocolVersion))
		f.u64(r.Term)
		f.u64(r.LastLog)
		f.u8(flags)
	case *raft.RequestVoteResponse:
		f.u8(byte(r.ProtocolVersion))
		f.u64(r.Term)
		f.flag(r.Granted)
	case *raft.RequestPreVoteResponse:
		f.u8(byte(r.ProtocolVersion))
		f.u64(r.Term)
		f.flag(r.Granted)
	case *raft.TimeoutNowResponse:
		f.u8(byte(r.ProtocolVersion))
	case *raft.InstallSnapshotResponse:
		f.u8(byte(r.ProtocolVersion))
		f.u64(r.Term)
		f.flag(r.Success)
	default:
		f.release()
		return errorFrame(req, codeRemote, fmt.Sprintf("raft answered with a %T", resp.Response))
	}
	if err := f.finish(req.kind, flagReply, req.id, req.src, req.dst); err != nil {
		panic("BUG: raft response too large")
	}
	return f
}

// decodeResponse fills the raft response out from a reply of replica src.
func decodeResponse(p []byte, src uint64, out any) error {
	c := cursor{b: p}
	switch r := out.(type) {
	case *raft.AppendEntriesResponse:
		*r = raft.AppendEntriesResponse{RPCHeader: raftHeader(c.u8(), src), Term: c.u64(), LastLog: c.u64()}
		flags := c.u8()
		r.Success, r.NoRetryBackoff = flags&1 != 0, flags&2 != 0
	case *raft.RequestVoteResponse:
		*r = raft.RequestVoteResponse{RPCHeader: raftHeader(c.u8(), src), Term: c.u64(), Granted: c.u8() != 0}
	case *raft.RequestPreVoteResponse:
		*r = raft.RequestPreVoteResponse{RPCHeader: raftHeader(c.u8(), src), Term: c.u64(), Granted: c.u8() != 0}
	case *raft.TimeoutNowResponse:
		*r = raft.TimeoutNowResponse{RPCHeader: raftHeader(c.u8(), src)}
	case *raft.InstallSnapshotResponse:
		*r = raft.InstallSnapshotResponse{RPCHeader: raftHeader(c.u8(), src), Term: c.u64(), Success: c.u8() != 0}
	default:
		return errors.New("BUG: no decoder for this response")
	}
	return c.end()
}
