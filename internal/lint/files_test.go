package lint

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const maxFile = 1 << 20 // bytes: binaries and data sets do not belong in the repository

// TestNoLargeFiles looks at what git tracks. An exported tree without git has
// nothing to look at.
func TestNoLargeFiles(t *testing.T) {
	top := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(top, ".git")); err != nil {
		t.Skip("not a git checkout: nothing is tracked")
	}
	out, err := exec.Command("git", "-C", top, "ls-files", "-z").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(top, name))
		if err != nil {
			continue // removed, and not committed yet
		}
		if info.Size() > maxFile {
			t.Errorf("%s has %d bytes; the limit is %d", name, info.Size(), maxFile)
		}
	}
}
