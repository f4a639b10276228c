package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestManpages: a command has a page with its flags, and the same day gives the same.
func TestManpages(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	var pages [2]string
	for i := range pages {
		dir := filepath.Join(t.TempDir(), "man")
		root := newRoot()
		root.SetArgs([]string{"manpages", dir})
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "raftsman-serve.1"))
		if err != nil {
			t.Fatal(err)
		}
		pages[i] = string(b)
	}
	if pages[0] != pages[1] || !strings.Contains(pages[0], `"Nov 2023"`) {
		t.Errorf("the page depends on the day: %.100s", pages[0])
	}
	if !strings.Contains(pages[0], "etcd-endpoints") {
		t.Error("the page has no flags")
	}
}
