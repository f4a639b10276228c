package raftnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// installTimeout bounds the request itself, after staging: the receiver only
// stores a manifest and opens what was staged.
const installTimeout = 5 * time.Minute

// maxManifest leaves room for the configuration in the same frame.
const maxManifest = MaxPayload - 1<<20

// InstallSnapshot implements raft.Transport. Raft's snapshots are manifests:
// it waits until the peer is up, has the installer stage what the manifest
// names, and then sends the manifest on a Bulk connection.
func (t *Transport) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	dst, err := parseReplica(id)
	if err != nil {
		return err
	}
	manifest, err := readManifest(args.Size, data)
	if err != nil {
		return err
	}
	ctx, patient := t.beginAppend(args.Term)
	if _, err := t.dataConn(ctx, dst, args.Term, patient); err != nil {
		return err
	}
	t.mu.Lock()
	installer := t.installer
	t.mu.Unlock()
	send := func() error {
		if err := t.sendSnapshot(ctx, dst, args, resp, manifest); err != nil {
			return fmt.Errorf("install snapshot at replica %d: %w", dst, err)
		}
		return nil
	}
	if installer == nil {
		err = send()
	} else {
		err = installer(ctx, dst, manifest, send)
	}
	if err != nil {
		return err
	}
	if resp.Success {
		t.progress.note(dst, args.Term, args.LastLogIndex, 0)
	} else {
		t.progress.note(dst, args.Term, 0, 0)
	}
	return nil
}

func readManifest(size int64, data io.Reader) ([]byte, error) {
	if size < 0 || size > maxManifest {
		return nil, fmt.Errorf("raftnet: a manifest of %d bytes is above the limit of %d", size, maxManifest)
	}
	if data == nil {
		return nil, errors.New("raftnet: snapshot without data")
	}
	manifest := make([]byte, size)
	if _, err := io.ReadFull(data, manifest); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return manifest, nil
}

func (t *Transport) sendSnapshot(ctx context.Context, dst uint64, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, manifest []byte) error {
	p, err := t.n.peerOf(dst)
	if err != nil {
		return err
	}
	c, err := p.bulkConn(ctx)
	if err != nil {
		return err
	}
	id := t.n.nextID.Add(1)
	f, err := encodeInstall(args, manifest, id, dst, t.replica)
	if err != nil {
		return err
	}
	reply, err := c.exchange(ctx, f, id, installTimeout, false)
	if err != nil {
		return err
	}
	return decodeResponse(reply, dst, resp)
}
