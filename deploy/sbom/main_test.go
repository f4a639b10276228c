package main

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// TestMaterials lists what a binary was built from, in order, with what go.sum holds.
func TestMaterials(t *testing.T) {
	b, err := materials(&debug.BuildInfo{
		GoVersion: "go1.26.0", Main: debug.Module{Path: "example.com/a"},
		Deps: []*debug.Module{
			{Path: "example.com/b", Version: "v1.0.0+x", Sum: "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAP8="},
			{Path: "example.com/c", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/d", Version: "v2.0.0"}},
		},
	}, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Metadata.Component.Purl; got != "pkg:golang/example.com/a@1.2.3" {
		t.Errorf("the binary is %s", got)
	}
	for i, want := range []string{"pkg:golang/std@1.26.0", "pkg:golang/example.com/b@v1.0.0%2Bx", "pkg:golang/example.com/d@v2.0.0"} {
		if got := b.Components[i].Purl; got != want {
			t.Errorf("component %d is %s, want %s", i, got, want)
		}
	}
	if got, want := b.Components[1].Hashes[0].Content, strings.Repeat("00", 31)+"ff"; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
	if _, err := materials(&debug.BuildInfo{}, "1"); err == nil {
		t.Error("a binary without modules has no bill")
	}
	if _, err := materials(&debug.BuildInfo{Main: debug.Module{Path: "a"}, Deps: []*debug.Module{{Path: "b", Sum: "h1:!"}}}, "1"); err == nil {
		t.Error("a checksum that is none was taken")
	}
}

// TestWrite reads a real binary, this test's own; twice it gives the same bytes.
func TestWrite(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, w := range []*bytes.Buffer{&first, &second} {
		if err := write(w, self, "1.2.3", "1700000000"); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same binary has two bills")
	}
	var b bom
	if err := json.Unmarshal(first.Bytes(), &b); err != nil || b.Metadata.Timestamp != "2023-11-14T22:13:20Z" {
		t.Errorf("%v: %+v", err, b.Metadata)
	}
	if err := write(&first, self, "1.2.3", "now"); err == nil {
		t.Error("SOURCE_DATE_EPOCH=now was taken")
	}
	if err := write(&first, os.DevNull, "1.2.3", ""); err == nil {
		t.Error("an empty file has no bill")
	}
}
