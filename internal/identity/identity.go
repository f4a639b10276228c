// Package identity says whose a store file is. A node's data directory and
// every store in it carry the same identity; one that differs or is missing
// is refused, never begun anew: an emptied store beside a full one forgets
// votes or acknowledged records.
package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/raftsman/raftsman/internal/vfs"
)

// Identity of a node's data directory.
type Identity struct {
	ClusterID   string `json:"cluster_id"`  // UUID made with the cluster
	NodeID      int32  `json:"node"`        // > 0, the Kafka broker id too
	Incarnation string `json:"incarnation"` // UUID made with the directory
}

func (id Identity) String() string {
	return fmt.Sprintf("cluster %s, node %d, incarnation %s", id.ClusterID, id.NodeID, id.Incarnation)
}

// MismatchError says that a file belongs to somebody else.
type MismatchError struct {
	File       string
	Have, Want Identity
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s belongs to (%s), not to this node (%s)", e.File, e.Have, e.Want)
}

const fileName = "identity.json"

// Load reads the identity of a data directory; ok is false when it has none.
func Load(fsys vfs.FS, dir string) (id Identity, ok bool, err error) {
	name := vfs.Join(dir, fileName)
	buf, err := vfs.ReadFile(fsys, name, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return id, false, nil
	}
	if err != nil {
		return id, false, err
	}
	if err := json.Unmarshal(buf, &id); err != nil {
		return id, false, fmt.Errorf("%s: %w", name, err)
	}
	if id.ClusterID == "" || id.NodeID <= 0 || id.Incarnation == "" {
		return id, false, fmt.Errorf("%s: incomplete identity (%s)", name, id)
	}
	return id, true, nil
}

// Save writes the identity of a data directory that has none, durably.
func Save(fsys vfs.FS, dir string, id Identity) error {
	buf, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return vfs.WriteFileAtomic(fsys, vfs.Join(dir, fileName), append(buf, '\n'))
}
