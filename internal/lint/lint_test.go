// Package lint holds rules about the code that no linter knows.
package lint

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/raftsman/raftsman/"

// layers, from the top: a package may import those below its own layer, and in
// its own layer only where listed in sideways.
var layers = [][]string{
	{"cmd/raftsman"},
	{"internal/testcluster", "internal/torture"},
	{"internal/torture/picture"},
	{"internal/torture/check", "internal/localetcd"},
	{"internal/torture/history"},
	{"pkg/node"},
	{"internal/kafkagateway", "internal/httpgateway", "internal/backup"},
	{"internal/kafka", "internal/gateway", "internal/controller", "internal/dashboard"},
	{"internal/health", "internal/coordinator", "internal/member"},
	{"internal/partition", "internal/cluster", "internal/group"},
	{"pkg/replication", "internal/seglog", "pkg/election", "internal/config", "internal/discovery"},
	{"internal/wal", "internal/raftnet", "internal/manifest"},
	{"internal/identity"},
	{"internal/vfs"},
}

// TestImportsPointDown keeps the architecture's arrows.
func TestImportsPointDown(t *testing.T) {
	level := make(map[string]int)
	for i, l := range layers {
		for _, p := range l {
			level[module+p] = i
		}
	}
	for path, imports := range packages(t) {
		from, known := level[path]
		if !known {
			if strings.HasPrefix(path, module+"internal/") && path != module+"internal/lint" && path != module+"internal/testetcd" {
				t.Errorf("%s has no place among the layers", path)
			}
			continue
		}
		for _, imp := range imports {
			if to, ours := level[imp]; ours && to <= from {
				t.Errorf("%s imports %s, which is not below it", path, imp)
			}
		}
	}
}

// TestElectionStandsAlone: pkg/election is a library for any service.
func TestElectionStandsAlone(t *testing.T) {
	for _, imp := range packages(t)[module+"pkg/election"] {
		if strings.HasPrefix(imp, module) {
			t.Errorf("pkg/election imports %s", imp)
		}
	}
}

// packages returns the imports of each package, without those of its tests.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p.Imports
	}
}
