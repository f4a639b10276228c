package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/manifest"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
)

func newDebugManifest() *cobra.Command {
	var (
		format outputFormat
		filter groupFilter
		all    bool
	)
	cmd := &cobra.Command{
		Use:   "manifest FILE-OR-DIR...",
		Short: "Show the manifests of all groups, and where their log is damaged",
		Long: `Show a log of manifests: the newest snapshot of each raft group, with the segments
that it names (base offset, bytes, crc32c, last offset), the log start, leader
epochs, producers and the raft configuration.

A path is a manifest log (….manifests), its directory (DATA-DIR/manifests), or a
data directory.
` + debugHelp,
		Example: `  raftsman debug manifest /var/lib/raftsman
  raftsman debug manifest --topic orders -o yaml /var/lib/raftsman`,
		Args: someArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := filter.load(args); err != nil {
				return err
			}
			d := &manifestDump{e: newEmitter(cmd, format), filter: &filter, all: all}
			for _, path := range args {
				if err := d.readPath(storeIn(path, "manifests")); err != nil {
					return d.e.finish(err)
				}
			}
			return d.e.finish(nil)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "show superseded snapshots too, in the order of the file")
	filter.bind(cmd)
	format.bind(cmd)
	return cmd
}

type manifestDump struct {
	e      *emitter
	filter *groupFilter
	all    bool
}

// manifestFile is a file and what it holds.
type manifestFile struct {
	File        string `json:"file"`
	Size        int64  `json:"size"`
	ClusterID   string `json:"cluster_id"`
	Node        int32  `json:"node"`
	Incarnation string `json:"incarnation"`
	Records     int    `json:"records"`
	End         int64  `json:"end"`
	Damaged     int    `json:"damaged"`
	Torn        string `json:"torn,omitempty"`
}

func (manifestFile) kind() string { return "file" }
func (f manifestFile) line() string {
	s := fmt.Sprintf("FILE    %s: of cluster %s, node %d, incarnation %s; %s in %d bytes", f.File, orDash(f.ClusterID), f.Node, orDash(f.Incarnation), plural(f.Records, "record", "records"), f.Size)
	if f.Torn != "" {
		s += fmt.Sprintf("; torn at byte %d: %s", f.End, f.Torn)
	}
	return s
}

// snapshotItem is a group's snapshot.
type snapshotItem struct {
	File      string              `json:"file"`
	Offset    int64               `json:"offset"`
	Group     uint64              `json:"group"`
	Partition string              `json:"partition,omitempty"`
	Dropped   bool                `json:"dropped,omitempty"`
	ID        string              `json:"id,omitempty"`
	Index     uint64              `json:"index"`
	Term      uint64              `json:"term"`
	Servers   []string            `json:"servers,omitempty"`
	Bytes     int                 `json:"bytes"`
	Manifest  *partition.Manifest `json:"manifest,omitempty"`
	Problem   string              `json:"problem,omitempty"` // the record checks, what it says does not
}

func (snapshotItem) kind() string { return "snapshot" }
func (s snapshotItem) line() string {
	head := fmt.Sprintf("%10d  group %d %s: ", s.Offset, s.Group, orDash(s.Partition))
	if s.Dropped {
		return head + "dropped"
	}
	head += fmt.Sprintf("index %d, term %d, servers %s, %d bytes", s.Index, s.Term, orDash(strings.Join(s.Servers, ",")), s.Bytes)
	if s.Problem != "" {
		return head + "; " + s.Problem
	}
	m := s.Manifest
	lines := []string{head + fmt.Sprintf("; log start %d, next offset %d, leader epoch %d, %s, assignment %d/%d",
		m.Log.Start, m.Log.Next, m.Epoch, plural(len(m.Producers), "producer", "producers"), m.Reached[0], m.Reached[1])}
	for _, seg := range m.Log.Segments {
		line := fmt.Sprintf("            %s  %d bytes, crc32c %08x, last offset %d, newest %s", seg.FileName(), seg.Bytes, seg.CRC, seg.LastOffset, orDash(millis(seg.MaxTimestamp)))
		if seg.DeleteHorizon > 0 {
			line += ", tombstones may go at " + millis(seg.DeleteHorizon)
		}
		lines = append(lines, line)
	}
	if c := m.Log.Compacted; c != (seglog.Compacted{}) {
		lines = append(lines, fmt.Sprintf("            compacted up to offset %d (compaction %d)", c.UpTo, c.Seq))
		if c.Pass > c.Seq {
			lines = append(lines, fmt.Sprintf("            compaction %d was under way, and done below offset %d", c.Pass, c.Done))
		}
	}
	for _, c := range m.Compactions {
		lines = append(lines, fmt.Sprintf("            compaction %d, up to offset %d, was decided %s", c.Seq, c.UpTo, millis(c.Time)))
	}
	return strings.Join(lines, "\n")
}

// readPath reads one file, or the newest of a directory, which is the one that
// counts.
func (d *manifestDump) readPath(path string) error {
	info, err := offline.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return d.read(path)
	}
	names, err := offline.List(path)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, manifest.Suffix) })
	if len(names) == 0 {
		return fmt.Errorf("%s holds no log of manifests (*%s)", path, manifest.Suffix)
	}
	return d.read(filepath.Join(path, names[len(names)-1]))
}

func (d *manifestDump) read(name string) error {
	newest := make(map[uint64]snapshotItem)
	report, err := manifest.Read(offline, name, manifest.Visitor{
		Record: func(r manifest.Record) error {
			if !d.filter.wants(r.Group) {
				return nil
			}
			s := d.snapshot(name, r)
			if d.all {
				return d.e.emit(s)
			}
			newest[r.Group] = s
			if r.Dropped {
				delete(newest, r.Group)
			}
			return nil
		},
		Damage: func(e *manifest.DamageError) error { return d.e.damage(e.File, e.Offset, e.Reason) },
	})
	if err != nil {
		return err
	}
	for _, group := range slices.Sorted(maps.Keys(newest)) {
		if s := newest[group]; s.Problem != "" {
			d.e.damages++
		}
		if err := d.e.emit(newest[group]); err != nil {
			return err
		}
	}
	return d.e.emit(manifestFile{
		File: report.File, Size: report.Size, ClusterID: report.Identity.ClusterID, Node: report.Identity.NodeID, Incarnation: report.Identity.Incarnation,
		Records: report.Records, End: report.End, Damaged: report.Damaged, Torn: report.Torn,
	})
}

func (d *manifestDump) snapshot(name string, r manifest.Record) snapshotItem {
	s := snapshotItem{
		File: name, Offset: r.Offset, Group: r.Group, Partition: d.filter.names[r.Group], Dropped: r.Dropped,
		ID: r.Meta.ID, Index: r.Meta.Index, Term: r.Meta.Term, Bytes: len(r.Payload),
	}
	if r.Dropped {
		return s
	}
	for _, server := range r.Meta.Configuration.Servers {
		s.Servers = append(s.Servers, string(server.ID))
	}
	m, err := partition.DecodeManifest(r.Payload)
	if err != nil {
		s.Problem = err.Error()
		return s
	}
	s.Manifest = &m
	return s
}
