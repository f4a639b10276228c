// Command protogen makes the Go code of the .proto files below api, with nothing
// but Go: the files are compiled by bufbuild/protocompile, and the code is written
// by the plugins that go.mod pins as tools.
//
//	go generate ./api/...
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

var plugins = []string{"protoc-gen-go", "protoc-gen-connect-go"}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

// run writes the code of the .proto files in the present directory's tree.
func run() error {
	files, err := generate(".")
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the generated files of all .proto files below a directory, by
// their paths in it.
func generate(dir string) (map[string]string, error) {
	sources, err := filepath.Glob(filepath.Join(dir, "raftsman", "v1", "*.proto"))
	if err != nil {
		return nil, err
	}
	for i, s := range sources {
		if sources[i], err = filepath.Rel(dir, s); err != nil {
			return nil, err
		}
	}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{dir}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(context.Background(), sources...)
	if err != nil {
		return nil, err
	}
	req := &pluginpb.CodeGeneratorRequest{FileToGenerate: sources, Parameter: proto.String("paths=source_relative"), ProtoFile: descriptors(compiled)}
	files := make(map[string]string)
	for _, plugin := range plugins {
		resp, err := ask(plugin, req)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", plugin, err)
		}
		for _, f := range resp.File {
			files[f.GetName()] = f.GetContent()
		}
	}
	return files, nil
}

// descriptors are those of files and all that they import, imports first.
func descriptors(files linker.Files) (all []*descriptorpb.FileDescriptorProto) {
	seen := make(map[string]bool)
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		if r, ok := f.(linker.Result); ok { // with comments
			all = append(all, r.FileDescriptorProto())
			return
		}
		all = append(all, protodesc.ToFileDescriptorProto(f))
	}
	for _, f := range slices.All(files) {
		add(f)
	}
	return all
}

func ask(plugin string, req *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	in, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "tool", plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	resp := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(out, resp); err != nil {
		return nil, err
	}
	if resp.Error != nil {
		return nil, fmt.Errorf("%s", resp.GetError())
	}
	return resp, nil
}
