package member

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/raftsman/raftsman/internal/vfs"
)

const (
	recordFile = "membership.json"
	lockFile   = "membership.lock"
	etcdDir    = "etcd"
	maxRecord  = 1 << 20
)

// States of a Record.
const (
	stateMaking = "making"
	stateOpen   = "open"
)

// Record is what membership.json holds.
type Record struct {
	State     string   `json:"state"`
	Cluster   string   `json:"cluster"`              // its name
	ClusterID string   `json:"cluster_id,omitempty"` // "" until the cluster has one
	OwnEtcd   bool     `json:"own_etcd"`             // etcd is run by the nodes
	Endpoints []string `json:"endpoints"`            // of etcd, for clients
	// Member is the name of the etcd member in this directory, "" for none; Token is
	// of the cluster that it began, Host the address that it listened on last.
	Member string `json:"member,omitempty"`
	Token  string `json:"token,omitempty"`
	Host   string `json:"host,omitempty"`
}

func (r *Record) check() error {
	if r.State != stateMaking && r.State != stateOpen || r.Cluster == "" || r.State == stateOpen && len(r.Endpoints) == 0 {
		return errors.New("it makes no sense; put back what was there, or start with an empty data directory")
	}
	return nil
}

// Dir is a locked data directory, seen as a place of a member.
type Dir struct {
	fs   vfs.FS
	path string
	lock io.Closer
}

// OpenDir locks a data directory, and makes it when it is missing. It reads the
// record; nil is none. What a first node has left that was never opened is removed.
func OpenDir(fsys vfs.FS, path string) (_ *Dir, _ *Record, err error) {
	if err := fsys.MkdirAll(path); err != nil {
		return nil, nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := fsys.Lock(vfs.Join(path, lockFile))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, nil, fmt.Errorf("data directory %s is in use by another process: stop it, or give this node a --data-dir of its own", path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("lock data directory: %w", err)
	}
	d := &Dir{fs: fsys, path: path, lock: lock}
	record, err := ReadRecord(fsys, path)
	if err == nil && record != nil && record.State == stateMaking {
		record, err = nil, d.clear()
	}
	if err != nil {
		return nil, nil, errors.Join(err, lock.Close())
	}
	return d, record, nil
}

// Close unlocks the directory.
func (d *Dir) Close() error { return d.lock.Close() }

// Etcd is where etcd keeps its data.
func (d *Dir) etcd() string { return vfs.Join(d.path, etcdDir) }

// clear removes an etcd that was never open, and then the record that says so.
func (d *Dir) clear() error {
	if err := d.fs.RemoveAll(d.etcd()); err != nil {
		return fmt.Errorf("remove what was made of a cluster: %w", err)
	}
	if err := d.fs.RemoveAll(vfs.Join(d.path, recordFile)); err != nil {
		return err
	}
	return d.fs.SyncDir(d.path)
}

// hasEtcd says whether there is data of an etcd member.
func (d *Dir) hasEtcd() bool {
	names, err := d.fs.List(vfs.Join(d.etcd(), "member", "wal"))
	return err == nil && slices.ContainsFunc(names, func(n string) bool { return len(n) > 4 && n[len(n)-4:] == ".wal" })
}

// save writes the record durably.
func (d *Dir) save(r Record) error {
	buf, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return vfs.WriteFileAtomic(d.fs, vfs.Join(d.path, recordFile), append(buf, '\n'))
}

// ReadRecord reads the record of a data directory; nil is none.
func ReadRecord(fsys vfs.FS, dir string) (*Record, error) {
	name := vfs.Join(dir, recordFile)
	buf, err := vfs.ReadFile(fsys, name, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(buf, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &r, nil
}
