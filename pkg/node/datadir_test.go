package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

func TestDataDirIsGuarded(t *testing.T) {
	made := func(t *testing.T) string {
		t.Helper()
		dir := t.TempDir()
		d, err := openDataDir(vfs.OS, dir, "wal")
		if err != nil {
			t.Fatal(err)
		}
		if err := d.claim("cluster", 7); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"wal", "manifests", "partitions"} {
			if err := os.MkdirAll(filepath.Join(dir, name, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.initialized(); err != nil {
			t.Fatal(err)
		}
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for what, c := range map[string]struct {
		spoil func(dir string) error
		want  string // in the error; empty is none
	}{
		"as it was":              {func(string) error { return nil }, ""},
		"without its log":        {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "wal")) }, "has lost its wal"},
		"without its manifests":  {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "manifests")) }, "has lost its manifests"},
		"without its identity":   {func(dir string) error { return os.Remove(filepath.Join(dir, "identity.json")) }, "but no identity.json"},
		"with a broken identity": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "identity.json"), []byte("{}"), 0o600) }, "incomplete identity"},
	} {
		t.Run(what, func(t *testing.T) {
			dir := made(t)
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			d, err := openDataDir(vfs.OS, dir, "wal")
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if d.id.NodeID != 7 || d.id.ClusterID != "cluster" {
					t.Fatalf("identity is %s", d.id)
				}
				if _, err := openDataDir(vfs.OS, dir, "wal"); err == nil || !strings.Contains(err.Error(), "in use by another process") {
					t.Fatalf("opened twice: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}
