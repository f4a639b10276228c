package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/vfs"
)

func newDebug() *cobra.Command {
	return group("debug", "Read a stopped node's files, and gather what explains a problem", newDebugWAL(), newDebugSegment(), newDebugManifest(), newDebugBundle())
}

// debugHelp ends the help of each verb.
const debugHelp = `
Files are only read. Stop the node first, or read a copy: what is being written
looks torn.

With -o json each thing found is one JSON object on a line of its own, with
-o yaml one document; both name what it is in "kind". Everything is printed as it
is found, so files may be of any size.

Exit codes: 0 all of it checks, 1 something is damaged or can't be read, 2 the
command line is wrong. A torn end is no damage: a crash leaves one, and nothing
in it was acknowledged.`

// item is something found; its fields are its JSON names.
type item interface {
	kind() string
	// line is the item in a table; "" leaves it out.
	line() string
}

// emitter prints items as they come.
type emitter struct {
	out     *bufio.Writer
	format  outputFormat
	damages int
}

func newEmitter(cmd *cobra.Command, format outputFormat) *emitter {
	return &emitter{out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10), format: format}
}

func (e *emitter) emit(it item) error {
	if e.format == "table" {
		if line := it.line(); line != "" {
			_, err := fmt.Fprintln(e.out, line)
			return err
		}
		return nil
	}
	doc, err := withKind(it)
	if err != nil {
		return err
	}
	if e.format == "yaml" {
		if _, err := io.WriteString(e.out, "---\n"); err != nil {
			return err
		}
		return encodeYAML(e.out, json.RawMessage(doc))
	}
	_, err = e.out.Write(append(doc, '\n'))
	return err
}

// withKind puts the kind before an item's fields.
func withKind(it item) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(it); err != nil {
		return nil, fmt.Errorf("encode as JSON: %w", err)
	}
	fields := bytes.TrimPrefix(bytes.TrimSpace(buf.Bytes()), []byte("{"))
	doc := fmt.Appendf(nil, `{"kind":%q`, it.kind())
	if len(fields) > 1 {
		doc = append(doc, ',')
	}
	return append(doc, fields...), nil
}

// text prints a line in tables only.
func (e *emitter) text(format string, args ...any) error {
	if e.format != "table" {
		return nil
	}
	_, err := fmt.Fprintf(e.out, format+"\n", args...)
	return err
}

// damageItem is a place where a file is damaged.
type damageItem struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Reason string `json:"reason"`
}

func (damageItem) kind() string { return "damage" }
func (d damageItem) line() string {
	return fmt.Sprintf("DAMAGE  %s at byte %d: %s", d.File, d.Offset, d.Reason)
}

func (e *emitter) damage(file string, offset int64, reason string) error {
	e.damages++
	return e.emit(damageItem{file, offset, reason})
}

// finish flushes the output; err is why the reading ended, nil at its end.
func (e *emitter) finish(err error) error {
	err = errors.Join(err, e.out.Flush())
	if err == nil && e.damages > 0 {
		return fmt.Errorf("%s damaged; what the node does about it and what you can do is in docs/operations/debug.md", plural(e.damages, "place is", "places are"))
	}
	return err
}

// someArgs wants one path at least.
func someArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{fmt.Errorf("%s needs a file or a directory; see %s --help", cmd.CommandPath(), cmd.CommandPath())}
	}
	return nil
}

// replicaNames are the partitions of replicas, as a data directory has them.
type replicaNames map[uint64]string

// readReplicaNames looks for them at the data directory that a path is in, if
// it is in one.
func readReplicaNames(path string) replicaNames {
	names := make(replicaNames)
	dir := path
	for range 4 {
		found, _ := filepath.Glob(filepath.Join(dir, "partitions", "*", "replica.json"))
		for _, name := range found {
			names.read(name)
		}
		if len(found) > 0 {
			break
		}
		dir = filepath.Dir(dir)
	}
	return names
}

func (n replicaNames) read(name string) {
	if info, err := os.Stat(name); err != nil || info.Size() > 1<<16 {
		return
	}
	b, err := os.ReadFile(name)
	var file struct {
		Topic     string `json:"topic"`
		Partition int32  `json:"partition"`
		Replica   uint64 `json:"replica"`
	}
	if err == nil && json.Unmarshal(b, &file) == nil && file.Topic != "" {
		n[file.Replica] = fmt.Sprintf("%s/%d", file.Topic, file.Partition)
	}
}

// groupFilter chooses raft groups by replica id or by topic.
type groupFilter struct {
	groups []uint
	topics []string
	names  replicaNames
}

func (f *groupFilter) bind(cmd *cobra.Command) {
	cmd.Flags().UintSliceVar(&f.groups, "group", nil, "only these groups: a group's id is that of this node's replica")
	cmd.Flags().StringSliceVar(&f.topics, "topic", nil, "only these topics, or partitions as TOPIC/PARTITION; needs the data directory around the files")
}

// load finds the topics' names beside the paths.
func (f *groupFilter) load(paths []string) error {
	f.names = make(replicaNames)
	for _, path := range paths {
		abs, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		for id, name := range readReplicaNames(abs) {
			f.names[id] = name
		}
	}
	if len(f.topics) > 0 && len(f.names) == 0 {
		return usageError{errors.New("--topic needs the node's data directory: no partitions/*/replica.json is near the files; use --group")}
	}
	return nil
}

func (f *groupFilter) wants(group uint64) bool {
	if len(f.groups) == 0 && len(f.topics) == 0 {
		return true
	}
	for _, id := range f.groups {
		if uint64(id) == group {
			return true
		}
	}
	name := f.names[group]
	for _, topic := range f.topics {
		if name != "" && (name == topic || filepath.Dir(name) == topic) {
			return true
		}
	}
	return false
}

// storeIn returns path, or the store of a data directory that path is.
func storeIn(path, store string) string {
	in := filepath.Join(path, store)
	if info, err := os.Stat(in); err == nil && info.IsDir() {
		return in
	}
	return path
}

// quoteShort shows bytes that people may have written.
func quoteShort(b []byte, limit int) string {
	if b == nil {
		return "null"
	}
	if len(b) <= limit {
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%s… (%d bytes)", strconv.Quote(string(b[:limit])), len(b))
}

// offline is the file system of all debug commands.
var offline = vfs.OS
