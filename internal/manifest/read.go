package manifest

import (
	"errors"
	"fmt"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

// Suffix is what names of manifest logs end with.
const Suffix = suffix

// FileReport is what Read found in one manifest log.
type FileReport struct {
	File     string
	Size     int64
	Identity identity.Identity // empty when the header is damaged
	Records  int
	End      int64 // where the records end
	Damaged  int
	Torn     string // what is wrong with the record at End, if anything is there
}

// Visitor gets what Read finds, in order. An error ends the reading.
type Visitor struct {
	Record func(Record) error // its payload is valid during the call
	Damage func(*DamageError) error
}

// Read reads a manifest log without changing it, and whatever its state: behind
// damage it goes on at the next record that checks. Whose it is does not matter.
func Read(fsys vfs.FS, name string, v Visitor) (report FileReport, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return report, err
	}
	defer f.Close()
	report.File = name
	if report.Size, err = f.Size(); err != nil {
		return report, err
	}
	damaged := func(d *DamageError) error {
		report.Damaged++
		return v.Damage(d)
	}
	id, off, err := readHead(f, report.Size)
	var d *DamageError
	if errors.As(err, &d) {
		if err = damaged(d); err == nil {
			off, err = findRecord(f, 1, report.Size)
		}
		if off == 0 {
			return report, err
		}
	}
	if err != nil {
		return report, err
	}
	report.Identity = id
	for off < report.Size {
		recs, n, err := readRecord(f, off, report.Size)
		if err == nil {
			for _, rec := range recs {
				report.Records++
				if err := v.Record(rec.Record); err != nil {
					return report, err
				}
			}
			off += n
			continue
		}
		var bad badRecord
		if !errors.As(err, &bad) {
			return report, fmt.Errorf("read manifest log %s: %w", name, err)
		}
		next, err := findRecord(f, off+1, report.Size)
		if err != nil {
			return report, fmt.Errorf("read manifest log %s: %w", name, err)
		}
		if next == 0 {
			report.Torn = string(bad)
			break
		}
		if err := damaged(&DamageError{File: name, Offset: off, Reason: fmt.Sprintf("%s; goes on at byte %d", bad, next)}); err != nil {
			return report, err
		}
		off = next
	}
	report.End = off
	return report, nil
}
