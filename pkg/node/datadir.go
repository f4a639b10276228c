package node

import (
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

// dataDir is a node's locked data directory.
type dataDir struct {
	fs   vfs.FS
	dir  string
	lock io.Closer
	id   identity.Identity
	set  bool // id is known: the directory was used before
}

// openDataDir locks the directory and reads whose it is. store is the
// Config.RaftStore that it is to be used with.
func openDataDir(fsys vfs.FS, dir, store string) (*dataDir, error) {
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := fsys.Lock(vfs.Join(dir, "LOCK"))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("data directory %s is in use by another process: stop it, or give this node a --data-dir of its own", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	d := &dataDir{fs: fsys, dir: dir, lock: lock}
	if d.id, d.set, err = identity.Load(fsys, dir); err == nil && !d.set {
		err = d.refuseOrphans()
	}
	if err == nil && d.set {
		err = d.refuseMissing(store)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

// storeDirs are the stores that a directory with an identity holds, once it
// was used.
var storeDirs = []string{"manifests", "partitions"}

// refuseOrphans refuses stores without an identity: they belong to somebody.
func (d *dataDir) refuseOrphans() error {
	for _, name := range append([]string{"wal"}, storeDirs...) {
		names, err := d.fs.List(vfs.Join(d.dir, name))
		if err == nil && len(names) > 0 {
			return fmt.Errorf("data directory %s holds %s but no identity.json: it was damaged or copied in part; restore identity.json, or start with an empty directory and let the node be rebuilt", d.dir, name)
		}
	}
	return nil
}

// refuseMissing refuses an identity whose stores are gone: an emptied store
// beside a full one forgets votes and acknowledged records.
func (d *dataDir) refuseMissing(store string) error {
	if _, err := d.fs.Stat(vfs.Join(d.dir, "initialized")); err != nil {
		return nil // its first start did not get that far
	}
	for _, name := range append([]string{store}, storeDirs...) {
		if _, err := d.fs.Stat(vfs.Join(d.dir, name)); err != nil {
			return fmt.Errorf("data directory %s has lost its %s (--raft-store %s): restore it, or start with an empty directory and let the node be rebuilt: %w", d.dir, name, store, err)
		}
	}
	return nil
}

// initialized notes that all stores were made.
func (d *dataDir) initialized() error {
	name := vfs.Join(d.dir, "initialized")
	if _, err := d.fs.Stat(name); err == nil {
		return nil
	}
	return vfs.WriteFileAtomic(d.fs, name, []byte("all stores were made; a missing one is refused from now on\n"))
}

// claim gives a new directory its identity.
func (d *dataDir) claim(clusterID string, nodeID int32) error {
	id := identity.Identity{ClusterID: clusterID, NodeID: nodeID, Incarnation: uuid.NewString()}
	if err := identity.Save(d.fs, d.dir, id); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	d.id, d.set = id, true
	return nil
}

func (d *dataDir) path(parts ...string) string { return vfs.Join(append([]string{d.dir}, parts...)...) }

func (d *dataDir) close() error { return d.lock.Close() }
