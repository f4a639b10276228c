package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestGeneratedIsFresh: the committed Go code is what the .proto files say.
func TestGeneratedIsFresh(t *testing.T) {
	files, err := generate("..")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no .proto files")
	}
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Errorf("%v: run go generate ./api/...", err)
		} else if string(have) != want {
			t.Errorf("api/%s is not what the .proto files say: run go generate ./api/...", name)
		}
	}
	committed, err := filepath.Glob("../raftsman/v1/*.pb.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range committed {
		rel, err := filepath.Rel("..", name)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := files[rel]; !ok {
			t.Errorf("api/%s has no .proto file any more: remove it", rel)
		}
	}
}
