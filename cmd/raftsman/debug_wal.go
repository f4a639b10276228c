package main

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/wal"
)

func newDebugWAL() *cobra.Command {
	var (
		format  outputFormat
		filter  groupFilter
		summary bool
	)
	cmd := &cobra.Command{
		Use:   "wal FILE-OR-DIR...",
		Short: "Show what a write-ahead log holds, and where it is damaged",
		Long: `Show the files of a write-ahead log: each file's header (whose it is, its number,
where its predecessor ends), each frame whose checksums are right, and for each
raft group what its frames come to: entries, term and vote, stable values.

A path is a log file, a log directory (DATA-DIR/wal) or a data directory. Of a
directory the files are also checked against one another, and every end but the
last file's is known exactly; a single file that was cut short looks torn.
` + debugHelp,
		Example: `  raftsman debug wal --summary /var/lib/raftsman
  raftsman debug wal --topic orders/3 /var/lib/raftsman
  raftsman debug wal -o json /var/lib/raftsman/wal/000000000000002a.wal | jq 'select(.kind == "frame" and .type == "vote")'`,
		Args: someArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := filter.load(args); err != nil {
				return err
			}
			d := &walDump{e: newEmitter(cmd, format), filter: &filter, summary: summary, groups: make(map[uint64]*walGroup)}
			for _, path := range args {
				if err := d.read(storeIn(path, "wal")); err != nil {
					return d.e.finish(err)
				}
			}
			return d.e.finish(d.showGroups())
		},
	}
	cmd.Flags().BoolVar(&summary, "summary", false, "leave out the frames")
	filter.bind(cmd)
	format.bind(cmd)
	return cmd
}

type walDump struct {
	e       *emitter
	filter  *groupFilter
	summary bool
	groups  map[uint64]*walGroup
}

// walFile is a file's header and what it holds.
type walFile struct {
	File        string `json:"file"`
	Seq         string `json:"sequence"`
	Size        int64  `json:"size"`
	ClusterID   string `json:"cluster_id"`
	Node        int32  `json:"node"`
	Incarnation string `json:"incarnation"`
	Begun       bool   `json:"begun"`
	Previous    string `json:"previous"`
	PreviousEnd int64  `json:"previous_end"`
	End         int64  `json:"end"`
	EndKnown    bool   `json:"end_known"`
	Batches     int    `json:"batches"`
	Frames      int    `json:"frames"`
	Damaged     int    `json:"damaged"`
	Torn        string `json:"torn,omitempty"`
}

func (walFile) kind() string { return "file" }
func (f walFile) line() string {
	s := fmt.Sprintf("FILE    %s: number %s of cluster %s, node %d, incarnation %s; %d bytes", f.File, f.Seq, orDash(f.ClusterID), f.Node, orDash(f.Incarnation), f.Size)
	switch {
	case !f.Begun:
		return s + "; prepared, nothing was written to it"
	case f.Previous == "":
		s += "; the log begins here"
	default:
		s += fmt.Sprintf("; follows %s, which ends at byte %d", f.Previous, f.PreviousEnd)
	}
	s += fmt.Sprintf("; %s with %s, to byte %d", plural(f.Batches, "batch", "batches"), plural(f.Frames, "frame", "frames"), f.End)
	if f.Torn != "" {
		s += "; torn there: " + f.Torn
	}
	return s
}

// walFrame is a frame whose checksums are right.
type walFrame struct {
	File      string `json:"file"`
	Offset    int64  `json:"offset"`
	Batch     int64  `json:"batch"`
	Group     uint64 `json:"group"`
	Partition string `json:"partition,omitempty"`
	Type      string `json:"type"`
	Index     uint64 `json:"index"`
	Term      uint64 `json:"term"`
	Entry     string `json:"entry,omitempty"` // raft's type of an entry
	Length    int    `json:"length"`
	Data      int    `json:"data_bytes"`
	Ext       int    `json:"extension_bytes"`
	At        string `json:"appended_at,omitempty"`
	Detail    string `json:"detail,omitempty"`
}

func (walFrame) kind() string { return "frame" }
func (f walFrame) line() string {
	what := f.Type
	if f.Entry != "" {
		what += " " + f.Entry
	}
	s := fmt.Sprintf("%10d  group %-6d %-24s %-20s index %-10d term %-6d %8d bytes  crc ok", f.Offset, f.Group, orDash(f.Partition), what, f.Index, f.Term, f.Length)
	if f.Detail != "" {
		s += "  " + f.Detail
	}
	return s
}

func (d *walDump) read(path string) error {
	return wal.Read(offline, path, wal.Visitor{
		Frame:  d.frame,
		Damage: func(e *wal.DamageError) error { return d.e.damage(e.File, e.Offset, e.Reason) },
		File:   d.file,
	})
}

func (d *walDump) file(r wal.FileReport) error {
	f := walFile{
		File: r.File, Seq: fmt.Sprintf("%016x", r.Seq), Size: r.Size,
		ClusterID: r.Identity.ClusterID, Node: r.Identity.NodeID, Incarnation: r.Identity.Incarnation,
		Begun: r.Begun, PreviousEnd: r.PreviousEnd, End: r.End, EndKnown: r.EndKnown,
		Batches: r.Batches, Frames: r.Frames, Damaged: r.Damaged, Torn: r.Torn,
	}
	if r.Previous > 0 {
		f.Previous = fmt.Sprintf("%016x", r.Previous)
	}
	return d.e.emit(f)
}

func (d *walDump) frame(f wal.Frame) error {
	if !d.filter.wants(f.Group) {
		return nil
	}
	g := d.groups[f.Group]
	if g == nil {
		g = &walGroup{Group: f.Group, Partition: d.filter.names[f.Group], Stable: make(map[string]string)}
		d.groups[f.Group] = g
	}
	g.apply(f)
	if d.summary {
		return nil
	}
	shown := walFrame{
		File: f.File, Offset: f.Offset, Batch: f.Batch, Group: f.Group, Partition: d.filter.names[f.Group], Type: f.Kind.String(),
		Index: f.Index, Term: f.Term, Length: f.Size, Data: len(f.Data), Ext: len(f.Extensions),
	}
	switch f.Kind {
	case wal.KindEntry:
		shown.Entry = entryType(f.Type)
		if f.AppendedAt.Unix() > 0 {
			shown.At = f.AppendedAt.Format(time.RFC3339Nano)
		}
	case wal.KindVote:
		shown.Detail = "for " + quoteShort(f.Data, 64)
	case wal.KindStable:
		shown.Detail = fmt.Sprintf("%s = %s", quoteShort(f.Data, 64), stableValue(f.Extensions))
	}
	return d.e.emit(shown)
}

func entryType(t raft.LogType) string { return t.String() }

// stableValue shows a number as raft writes it, or the bytes.
func stableValue(b []byte) string {
	if len(b) == 8 {
		return fmt.Sprint(binary.BigEndian.Uint64(b))
	}
	return quoteShort(b, 64)
}

// walGroup is what the frames of a group come to.
type walGroup struct {
	Group     uint64            `json:"group"`
	Partition string            `json:"partition,omitempty"`
	Frames    int               `json:"frames"`
	Bytes     int64             `json:"bytes"`
	First     uint64            `json:"first_index"` // 0: no entries
	Last      uint64            `json:"last_index"`
	Term      uint64            `json:"last_term"`
	Gaps      int               `json:"gaps"` // entries that do not follow the one before
	Voted     string            `json:"voted_for,omitempty"`
	VoteTerm  uint64            `json:"vote_term,omitempty"`
	Dropped   bool              `json:"dropped,omitempty"`
	Stable    map[string]string `json:"stable,omitempty"`
}

func (walGroup) kind() string { return "group" }
func (g walGroup) line() string {
	entries := "no entries"
	if g.First > 0 {
		entries = fmt.Sprintf("entries %d to %d, last of term %d", g.First, g.Last, g.Term)
	}
	if g.Gaps > 0 {
		entries += fmt.Sprintf(" (%s: frames are missing)", plural(g.Gaps, "gap", "gaps"))
	}
	s := fmt.Sprintf("GROUP   %d %s: %s; %s, %d bytes", g.Group, orDash(g.Partition), entries, plural(g.Frames, "frame", "frames"), g.Bytes)
	if g.VoteTerm > 0 {
		s += fmt.Sprintf("; voted for %s in term %d", g.Voted, g.VoteTerm)
	}
	for _, key := range slices.Sorted(maps.Keys(g.Stable)) {
		s += fmt.Sprintf("; %s = %s", key, g.Stable[key])
	}
	if g.Dropped {
		s += "; dropped"
	}
	return s
}

// apply follows the log's own rules; see internal/wal/DESIGN.md.
func (g *walGroup) apply(f wal.Frame) {
	g.Frames++
	g.Bytes += int64(f.Size)
	g.Dropped = false
	switch f.Kind {
	case wal.KindEntry:
		if g.First == 0 {
			g.First = f.Index
		} else if f.Index != g.Last+1 {
			g.Gaps++
		}
		g.Last, g.Term = f.Index, f.Term
	case wal.KindTruncate:
		if g.First > 0 && f.Index <= g.Last {
			g.Last = f.Index - 1
		}
	case wal.KindRelease:
		if g.First > 0 {
			g.First = max(g.First, f.Index+1)
		}
	case wal.KindRewrite:
		g.First, g.Last, g.Term = 0, 0, 0
	case wal.KindStable:
		g.Stable[string(f.Data)] = stableValue(f.Extensions)
	case wal.KindVote:
		g.Voted, g.VoteTerm = string(f.Data), f.Term
	case wal.KindDrop:
		*g = walGroup{Group: g.Group, Partition: g.Partition, Stable: make(map[string]string), Frames: g.Frames, Bytes: g.Bytes, Dropped: true}
	}
	if g.First > g.Last {
		g.First, g.Last, g.Term = 0, 0, 0
	}
}

func (d *walDump) showGroups() error {
	all := slices.SortedFunc(maps.Values(d.groups), func(a, b *walGroup) int { return cmp.Compare(a.Group, b.Group) })
	for _, g := range all {
		if err := d.e.emit(*g); err != nil {
			return err
		}
	}
	return d.e.text("%s; %s", plural(len(all), "group", "groups"), plural(d.e.damages, "damaged place", "damaged places"))
}
