package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/raftsman/raftsman/internal/vfs"
)

const (
	diskName    = "view.json"
	diskFormat  = 1
	maxDiskSize = 1 << 30
)

// diskView is view.json.
type diskView struct {
	Format        int       `json:"format"`
	Base          string    `json:"base"`
	EtcdClusterID string    `json:"etcd_cluster_id"` // hex, as etcdctl prints it
	Revision      int64     `json:"revision"`
	Frozen        string    `json:"frozen,omitempty"`
	Sticky        bool      `json:"sticky,omitempty"`
	Seen          time.Time `json:"seen,omitzero"` // when etcd was last seen to hold it
	Keys          []diskKey `json:"keys"`
}

type diskKey struct {
	Key            string          `json:"key"` // below the base
	Value          json.RawMessage `json:"value,omitempty"`
	Bytes          []byte          `json:"bytes,omitempty"` // instead of Value when that is no JSON
	CreateRevision int64           `json:"create_revision"`
	ModRevision    int64           `json:"mod_revision"`
	Lease          int64           `json:"lease,omitempty"`
	Good           json.RawMessage `json:"last_good,omitempty"` // the last value that made sense
	Gone           bool            `json:"gone,omitempty"`      // etcd has no such key, and should
}

// picture is what is saved, and what loading gives back.
type picture struct {
	memory
	items map[string]item
}

func encodePicture(keys Keys, p picture) ([]byte, error) {
	dv := diskView{
		Format: diskFormat, Base: keys.base, EtcdClusterID: strconv.FormatUint(p.etcdID, 16),
		Revision: p.revision, Frozen: p.frozen, Sticky: p.sticky, Seen: p.at.UTC().Truncate(time.Second), Keys: make([]diskKey, 0, len(p.items)),
	}
	for _, rel := range slices.Sorted(maps.Keys(p.items)) {
		it := p.items[rel]
		dk := diskKey{Key: rel, CreateRevision: it.createRevision, ModRevision: it.modRevision, Lease: it.lease, Good: it.good, Gone: it.gone}
		// RawMessage is compacted when it is written, so only a value that
		// survives that unchanged is written as JSON.
		var compact bytes.Buffer
		if json.Compact(&compact, it.value) == nil && bytes.Equal(compact.Bytes(), it.value) {
			dk.Value = it.value
		} else {
			dk.Bytes = it.value
		}
		dv.Keys = append(dv.Keys, dk)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(dv); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func decodePicture(keys Keys, data []byte) (p picture, err error) {
	var dv diskView
	if err := json.Unmarshal(data, &dv); err != nil {
		return p, err
	}
	if dv.Format != diskFormat {
		return p, fmt.Errorf("format %d", dv.Format)
	}
	if dv.Base != keys.base {
		return p, fmt.Errorf("%w: it is of %s, not of %s", errForeign, dv.Base, keys.base)
	}
	if p.etcdID, err = strconv.ParseUint(dv.EtcdClusterID, 16, 64); err != nil {
		return p, fmt.Errorf("etcd_cluster_id: %w", err)
	}
	p.revision, p.frozen, p.sticky, p.at = dv.Revision, dv.Frozen, dv.Sticky, dv.Seen
	p.items = make(map[string]item, len(dv.Keys))
	for _, dk := range dv.Keys {
		value := []byte(dk.Value)
		if dk.Value == nil {
			value = dk.Bytes
		}
		p.items[dk.Key] = item{value: value, createRevision: dk.CreateRevision, modRevision: dk.ModRevision, lease: dk.Lease, good: dk.Good, gone: dk.Gone}
	}
	return p, nil
}

var (
	// errDamaged is a view.json that can't be read as what it is.
	errDamaged = errors.New("damaged")
	// errForeign is a sound view.json of another cluster.
	errForeign = errors.New("this is another cluster's view")
)

// readPicture reads view.json; ok is false when there is none.
func readPicture(fsys vfs.FS, dir string, keys Keys) (p picture, ok bool, err error) {
	name := vfs.Join(dir, diskName)
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err != nil {
		return p, false, fmt.Errorf("open the view: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return p, false, fmt.Errorf("read %s: %w", name, err)
	}
	if size > maxDiskSize {
		return p, false, fmt.Errorf("%s: %d bytes: %w", name, size, errDamaged)
	}
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); n < len(data) && err != nil {
		return p, false, fmt.Errorf("read %s: %w", name, err)
	}
	p, err = decodePicture(keys, data)
	if errors.Is(err, errForeign) {
		return p, false, fmt.Errorf("%s: %w", name, err)
	}
	if err != nil {
		return p, false, fmt.Errorf("%s: %w: %w", name, errDamaged, err)
	}
	return p, true, nil
}

func writePicture(fsys vfs.FS, dir string, keys Keys, p picture) error {
	data, err := encodePicture(keys, p)
	if err != nil {
		return err
	}
	return vfs.WriteFileAtomic(fsys, vfs.Join(dir, diskName), data)
}
