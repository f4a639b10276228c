package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"gopkg.in/yaml.v3"
)

// fileValue is a setting in the configuration file.
type fileValue struct {
	key    string // as written
	line   int
	values []string
	list   bool
}

// readConfigFile reads a flat YAML file: keys with a value or a list of values.
// A missing file is an error only if it was asked for. All that is wrong is
// reported at once, with its line.
func readConfigFile(file string, explicit bool) (map[string]fileValue, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !explicit {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&doc); err == io.EOF {
		return nil, nil // nothing but comments
	} else if err != nil {
		return nil, fmt.Errorf("--config: file %s: %w", file, err)
	}
	if err := d.Decode(&more); err != io.EOF {
		return nil, fmt.Errorf("--config: file %s: one YAML document is wanted, this has more", file)
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("--config: file %s line %d: want lines of the form \"key: value\"", file, top.Line)
	}
	values := make(map[string]fileValue)
	var errs []error
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, node := top.Content[i], top.Content[i+1]
		name := strings.ReplaceAll(key.Value, "_", "-")
		v, err := readValue(key, node)
		if first, ok := values[name]; ok && err == nil {
			err = fmt.Errorf("key %q was given in line %d already: keep one of them", key.Value, first.line)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("file %s line %d: %w", file, key.Line, err))
			continue
		}
		values[name] = v
	}
	return values, errors.Join(errs...)
}

func readValue(key, node *yaml.Node) (fileValue, error) {
	v := fileValue{key: key.Value, line: key.Line}
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	nodes := []*yaml.Node{node}
	switch node.Kind {
	case yaml.SequenceNode:
		v.list, nodes = true, node.Content
	case yaml.MappingNode:
		return v, fmt.Errorf("key %q must be a value or a list, not a map", key.Value)
	}
	for _, n := range nodes {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		switch {
		case n.Kind != yaml.ScalarNode:
			return v, fmt.Errorf("key %q must be a value or a list of values, line %d is neither", key.Value, n.Line)
		case n.Tag == "!!null":
			return v, fmt.Errorf("key %q has no value: give one, or remove the line to have the default", key.Value)
		}
		v.values = append(v.values, n.Value)
	}
	return v, nil
}
