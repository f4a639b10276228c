package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/seglog"
)

func newDebugSegment() *cobra.Command {
	var (
		format           outputFormat
		filter           groupFilter
		records, summary bool
	)
	cmd := &cobra.Command{
		Use:   "segment FILE-OR-DIR...",
		Short: "Show the record batches of segments, and where they are damaged",
		Long: `Show segment files: each batch whose checksum is right, with its offsets, leader
epoch, producer, codec and timestamps, and for each file whether its index fits.
The crc of a file is the one that the newest manifest has of it, if the segment is
sealed (see raftsman debug manifest).

A path is a segment (….log), or a directory below which all segments are read, as
DATA-DIR/partitions or one replica's directory. An index that does not fit is no
damage: the node makes it anew.
` + debugHelp,
		Example: `  raftsman debug segment --summary /var/lib/raftsman
  raftsman debug segment --records /var/lib/raftsman/partitions/71/log/00000000000000000000.log`,
		Args: someArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := filter.load(args); err != nil {
				return err
			}
			d := &segmentDump{e: newEmitter(cmd, format), filter: &filter, records: records, summary: summary}
			return d.e.finish(d.readAll(args))
		},
	}
	cmd.Flags().BoolVar(&records, "records", false, "show the records of each batch")
	cmd.Flags().BoolVar(&summary, "summary", false, "leave out the batches")
	filter.bind(cmd)
	format.bind(cmd)
	return cmd
}

type segmentDump struct {
	e                *emitter
	filter           *groupFilter
	records, summary bool
	files            int
}

func (d *segmentDump) readAll(paths []string) error {
	for _, path := range paths {
		err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() || name != path && !seglog.IsSegment(name) || !d.wants(name):
				return nil
			}
			return d.read(name)
		})
		if err != nil {
			return err
		}
	}
	if d.files == 0 {
		return fmt.Errorf("no segments are there (files of 20 digits, a generation if they were compacted, and .log)")
	}
	return d.e.text("%s; %s", plural(d.files, "segment", "segments"), plural(d.e.damages, "damaged place", "damaged places"))
}

// wants finds the replica's id among the directories of a path.
func (d *segmentDump) wants(name string) bool {
	return d.filter.wants(replicaIn(name))
}

// replicaIn is N of …/partitions/N/log/…, 0 if the path has another form.
func replicaIn(name string) (id uint64) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return 0
	}
	parts := strings.Split(filepath.ToSlash(abs), "/")
	if i := slices.Index(parts, "partitions"); i >= 0 && i+1 < len(parts) {
		if _, err := fmt.Sscanf(parts[i+1], "%d", &id); err != nil {
			return 0
		}
	}
	return id
}

// segmentFile is a file and what it holds.
type segmentFile struct {
	File         string `json:"file"`
	Partition    string `json:"partition,omitempty"`
	Size         int64  `json:"size"`
	CRC          string `json:"crc32c"`
	Base         int64  `json:"base_offset"`
	Generation   int64  `json:"generation,omitempty"` // of compaction
	LastOffset   int64  `json:"last_offset"`
	MaxTimestamp string `json:"max_timestamp,omitempty"`
	Batches      int    `json:"batches"`
	Records      int64  `json:"records"`
	Index        string `json:"index"`
	IndexEntries int    `json:"index_entries"`
	Damaged      int    `json:"damaged"`
	Torn         string `json:"torn,omitempty"`
}

func (segmentFile) kind() string { return "segment" }
func (f segmentFile) line() string {
	s := fmt.Sprintf("SEGMENT %s: %s", f.File, orDash(f.Partition))
	if f.Batches > 0 {
		s += fmt.Sprintf("; offsets %d to %d", f.Base, f.LastOffset)
	}
	if f.Generation > 0 {
		s += fmt.Sprintf("; compacted, generation %d", f.Generation)
	}
	s += fmt.Sprintf("; %s, %s; %d bytes, crc32c %s; index: %s", plural(f.Batches, "batch", "batches"), plural(f.Records, "record", "records"), f.Size, f.CRC, f.Index)
	if f.IndexEntries > 0 {
		s += fmt.Sprintf(" (%s)", plural(f.IndexEntries, "entry", "entries"))
	}
	if f.Torn != "" {
		s += "; torn: " + f.Torn
	}
	return s
}

// segmentBatch is a batch whose checksum is right.
type segmentBatch struct {
	File          string `json:"file"`
	Position      int64  `json:"position"`
	Size          int    `json:"size"`
	Base          int64  `json:"base_offset"`
	Last          int64  `json:"last_offset"`
	Records       int32  `json:"records"`
	Epoch         int32  `json:"leader_epoch"`
	ProducerID    int64  `json:"producer_id"`
	ProducerEpoch int16  `json:"producer_epoch"`
	Sequence      int32  `json:"base_sequence"`
	Codec         string `json:"codec"`
	Transactional bool   `json:"transactional,omitempty"`
	Control       bool   `json:"control,omitempty"`
	BaseTimestamp string `json:"base_timestamp,omitempty"`
	DeleteHorizon string `json:"delete_horizon,omitempty"`
	MaxTimestamp  string `json:"max_timestamp,omitempty"`
	CRC           string `json:"crc32c"`
}

func (segmentBatch) kind() string { return "batch" }
func (b segmentBatch) line() string {
	producer := "-"
	if b.ProducerID >= 0 {
		producer = fmt.Sprintf("%d epoch %d sequence %d", b.ProducerID, b.ProducerEpoch, b.Sequence)
	}
	s := fmt.Sprintf("%10d  offsets %d to %d, %s, leader epoch %d, producer %s, %s, %d bytes, %s, crc %s ok",
		b.Position, b.Base, b.Last, plural(int(b.Records), "record", "records"), b.Epoch, producer, b.Codec, b.Size, orDash(b.MaxTimestamp), b.CRC)
	if b.Transactional {
		s += ", transactional"
	}
	if b.Control {
		s += ", control"
	}
	if b.DeleteHorizon != "" {
		s += ", tombstones may go at " + b.DeleteHorizon
	}
	return s
}

// segmentRecord is one record.
type segmentRecord struct {
	Offset    int64   `json:"offset"`
	Timestamp string  `json:"timestamp,omitempty"`
	Key       *string `json:"key"`
	Value     *string `json:"value"`
	text      string
}

func (segmentRecord) kind() string   { return "record" }
func (r segmentRecord) line() string { return r.text }

func (d *segmentDump) read(name string) error {
	d.files++
	report, err := seglog.InspectSegment(offline, name, seglog.SegmentVisitor{
		Batch:  func(pos int64, b seglog.Batch) error { return d.batch(name, pos, b) },
		Damage: func(e *seglog.DamageError) error { return d.e.damage(e.File, e.Offset, e.Reason) },
	})
	if err != nil {
		return err
	}
	f := segmentFile{
		File: report.File, Partition: d.filter.names[replicaIn(name)], Size: report.Size, CRC: fmt.Sprintf("%08x", report.CRC),
		Base: report.Base, Generation: report.Generation, LastOffset: report.LastOffset, MaxTimestamp: millis(report.MaxTimestamp), Batches: report.Batches,
		Records: report.Records, Index: report.Index, IndexEntries: report.IndexEntries, Damaged: report.Damaged,
	}
	if report.Torn != "" {
		f.Torn = fmt.Sprintf("%s, at byte %d", report.Torn, report.TornAt)
	}
	return d.e.emit(f)
}

func (d *segmentDump) batch(name string, pos int64, b seglog.Batch) error {
	if !d.summary {
		horizon := ""
		if ms, ok := b.DeleteHorizon(); ok {
			horizon = millis(ms)
		}
		err := d.e.emit(segmentBatch{
			DeleteHorizon: horizon,
			File:          name, Position: pos, Size: len(b), Base: b.BaseOffset(), Last: b.LastOffset(), Records: b.NumRecords(), Epoch: b.LeaderEpoch(),
			ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(), Sequence: b.BaseSequence(), Codec: seglog.Codecs[b.Codec()],
			Transactional: b.Transactional(), Control: b.Control(),
			BaseTimestamp: millis(b.BaseTimestamp()), MaxTimestamp: millis(b.MaxTimestamp()), CRC: fmt.Sprintf("%08x", b.CRC()),
		})
		if err != nil {
			return err
		}
	}
	if !d.records {
		return nil
	}
	var failed error
	err := seglog.Records(b, func(offset, ts int64, key, value []byte) bool {
		failed = d.e.emit(segmentRecord{
			Offset: offset, Timestamp: millis(ts), Key: optionalText(key), Value: optionalText(value),
			text: fmt.Sprintf("            %d  %s  key %s  value %s", offset, orDash(millis(ts)), quoteShort(key, 200), quoteShort(value, 200)),
		})
		return failed == nil
	})
	if errors.Is(err, seglog.ErrCorrupt) || errors.Is(err, seglog.ErrTooLarge) {
		// Its checksum is right: it came like this from its producer.
		return d.e.damage(name, pos, "the batch's records can't be decoded: "+err.Error())
	}
	return errors.Join(err, failed)
}

func optionalText(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

// millis shows a timestamp; there is none below 0.
func millis(ms int64) string {
	if ms < 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}
