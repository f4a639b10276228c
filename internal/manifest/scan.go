package manifest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

// Record is what Inspect shows of one record.
type Record struct {
	Offset  int64 // byte in the file
	Group   uint64
	Dropped bool
	Meta    raft.SnapshotMeta
	Payload []byte // valid during the call only
}

// scan reads the file and cuts off a torn last record.
func (s *Store) scan() error {
	end, torn, err := scanFile(s.file, s.opts.Identity, func(r placed) {
		if r.Dropped {
			delete(s.latest, r.Group)
			return
		}
		s.latest[r.Group] = entry{meta: r.Meta, offset: r.Offset, size: r.size, payload: r.payload}
	})
	if err != nil {
		return err
	}
	if s.old, err = isOld(s.file); err != nil {
		return fmt.Errorf("read manifest log %s: %w", s.file.Name(), err)
	}
	s.end = end
	for _, e := range s.latest {
		s.live += e.size
	}
	if torn {
		// Gone durably: what is written here next must not complete it.
		s.opts.Logger.Info("cut a torn record off the manifest log", "file", s.file.Name(), "offset", end)
		if err := s.file.Truncate(end); err != nil {
			return fmt.Errorf("cut manifest log %s: %w", s.file.Name(), err)
		}
	}
	// After a crash of the process alone the last record may be whole in the
	// cache and not on the disk; so may the file's name. Who acts on a snapshot
	// removes what it replaces.
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync manifest log %s: %w", s.file.Name(), err)
	}
	for _, dir := range []string{s.opts.Dir, filepath.Dir(s.opts.Dir)} {
		if err := s.opts.FS.SyncDir(dir); err != nil {
			return fmt.Errorf("sync manifest log: %w", err)
		}
	}
	return nil
}

// Inspect reads a manifest log file without changing it.
func Inspect(fsys vfs.FS, name string, fn func(Record)) (id identity.Identity, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return id, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return id, err
	}
	id, _, err = readHead(f, size)
	if err != nil {
		return id, err
	}
	_, _, err = scanFile(f, id, func(r placed) { fn(r.Record) })
	return id, err
}

// scanFile calls fn for every record. It returns where the valid records end
// and whether something torn follows there.
func scanFile(f vfs.File, want identity.Identity, fn func(placed)) (end int64, torn bool, err error) {
	size, err := f.Size()
	if err != nil {
		return 0, false, err
	}
	have, off, err := readHead(f, size)
	if err != nil {
		return 0, false, err
	}
	if have != want {
		return 0, false, &identity.MismatchError{File: f.Name(), Have: have, Want: want}
	}
	for off < size {
		recs, n, err := readRecord(f, off, size)
		if err == nil {
			for _, r := range recs {
				fn(r)
			}
			off += n
			continue
		}
		var bad badRecord
		if !errors.As(err, &bad) {
			return 0, false, fmt.Errorf("read manifest log %s: %w", f.Name(), err)
		}
		next, ferr := findRecord(f, off+1, size)
		if ferr != nil {
			return 0, false, fmt.Errorf("read manifest log %s: %w", f.Name(), ferr)
		}
		if next > 0 {
			return 0, false, &DamageError{File: f.Name(), Offset: off, Reason: fmt.Sprintf("%v, but a valid record follows at byte %d", err, next)}
		}
		return off, true, nil
	}
	return off, false, nil
}

// badRecord is a record whose bytes do not check, as opposed to one that can't
// be read.
type badRecord string

func (e badRecord) Error() string { return string(e) }

func readHead(f vfs.File, size int64) (id identity.Identity, end int64, err error) {
	damage := func(reason string) error { return &DamageError{File: f.Name(), Reason: reason} }
	const fixed = len(fileMagic) + 8
	if size < int64(fixed) {
		return id, 0, damage("too short for its header")
	}
	head := make([]byte, fixed)
	if _, err := f.ReadAt(head, 0); err != nil {
		return id, 0, err
	}
	if m := string(head[:len(fileMagic)]); m != fileMagic && m != oldMagic {
		return id, 0, damage("not a manifest log of this version")
	}
	n := binary.LittleEndian.Uint32(head[len(fileMagic):])
	if n > 4096 || int64(n)+int64(fixed) > size {
		return id, 0, damage("length of the header is impossible")
	}
	buf := make([]byte, n)
	if _, err := f.ReadAt(buf, int64(fixed)); err != nil {
		return id, 0, err
	}
	if crc32.Checksum(buf, castagnoli) != binary.LittleEndian.Uint32(head[len(fileMagic)+4:]) {
		return id, 0, damage("checksum of the header is wrong")
	}
	if err := json.Unmarshal(buf, &id); err != nil {
		return id, 0, damage("header: " + err.Error())
	}
	return id, int64(fixed) + int64(n), nil
}

func isOld(f vfs.File) (bool, error) {
	magic := make([]byte, len(oldMagic))
	_, err := f.ReadAt(magic, 0)
	return string(magic) == oldMagic, err
}

// placed is a record and where it is.
type placed struct {
	Record
	size    int64 // with its header
	payload int64 // offset of the payload in the file
}

// readRecord returns one record, or those of a batch, and the length in the file.
func readRecord(f vfs.File, off, size int64) (recs []placed, n int64, err error) {
	if size-off < recordHeader {
		return nil, 0, badRecord("too short for a record")
	}
	head := make([]byte, recordHeader)
	if _, err := f.ReadAt(head, off); err != nil {
		return nil, 0, err
	}
	if binary.LittleEndian.Uint32(head) != recordMagic {
		return nil, 0, badRecord("no record begins here")
	}
	length := int64(binary.LittleEndian.Uint32(head[4:]))
	if length > maxBody || length > size-off-recordHeader {
		return nil, 0, badRecord("length of the record is impossible")
	}
	buf := make([]byte, recordHeader+length)
	if _, err := f.ReadAt(buf, off); err != nil {
		return nil, 0, err
	}
	if err := checkRecord(buf); err != nil {
		return nil, 0, err
	}
	body := buf[recordHeader:]
	if len(body) >= batchHead && body[0] == kindBatch {
		recs, err = decodeBatch(body, off+recordHeader)
		return recs, int64(len(buf)), err
	}
	rec, err := decodeBody(body, off)
	return []placed{rec}, int64(len(buf)), err
}

// decodeBatch reads the snapshots of a batch whose body is at an offset. All of
// it was checked: it is written by one write, and counts as a whole.
func decodeBatch(body []byte, off int64) (recs []placed, err error) {
	count := binary.LittleEndian.Uint64(body[1:])
	for at := int64(batchHead); at < int64(len(body)); {
		rest := body[at:]
		if len(rest) < recordHeader || binary.LittleEndian.Uint32(rest) != partMagic {
			return nil, badRecord("a part of the batch is none")
		}
		n := int64(binary.LittleEndian.Uint32(rest[4:]))
		if n > int64(len(rest)-recordHeader) {
			return nil, badRecord("length of a part of the batch is impossible")
		}
		part := rest[:recordHeader+n]
		if err := checkRecord(part); err != nil {
			return nil, err
		}
		rec, err := decodeBody(part[recordHeader:], off+at)
		if err == nil && rec.Dropped {
			err = badRecord("a part of the batch is no snapshot")
		}
		if err != nil {
			return nil, err
		}
		recs = append(recs, rec)
		at += rec.size
	}
	if len(recs) == 0 || uint64(len(recs)) != count {
		return nil, badRecord(fmt.Sprintf("the batch has %d parts and says %d", len(recs), count))
	}
	return recs, nil
}

func checkRecord(buf []byte) error {
	if crc32.Checksum(buf[recordHeader:], castagnoli) != binary.LittleEndian.Uint32(buf[8:]) {
		return badRecord("checksum of the record is wrong")
	}
	return nil
}

// decodeBody reads the body of the record at an offset.
func decodeBody(body []byte, off int64) (rec placed, err error) {
	if len(body) < 9 {
		return rec, badRecord("record is too short")
	}
	rec.Offset, rec.size = off, recordHeader+int64(len(body))
	rec.Group = binary.LittleEndian.Uint64(body[1:])
	switch body[0] {
	case kindDrop:
		rec.Dropped = true
		return rec, nil
	case kindSnapshot:
	default:
		return rec, badRecord(fmt.Sprintf("kind %d of the record is unknown", body[0]))
	}
	if len(body) < 13 {
		return rec, badRecord("record is too short")
	}
	meta := int64(binary.LittleEndian.Uint32(body[9:]))
	if meta > maxMeta || meta > int64(len(body)-13) {
		return rec, badRecord("length of the record's meta is impossible")
	}
	if err := json.Unmarshal(body[13:13+meta], &rec.Meta); err != nil {
		return rec, badRecord("meta of the record: " + err.Error())
	}
	rec.Payload, rec.payload = body[13+meta:], off+recordHeader+13+meta
	return rec, nil
}

// findRecord returns the offset of the first valid record at or after off, or 0.
func findRecord(f vfs.File, off, size int64) (int64, error) {
	magic := binary.LittleEndian.AppendUint32(nil, recordMagic)
	const window = 1 << 20
	buf := make([]byte, window+len(magic)-1)
	for ; off < size; off += window {
		part := buf[:min(int64(len(buf)), size-off)]
		if _, err := f.ReadAt(part, off); err != nil {
			return 0, err
		}
		for at := 0; ; at++ {
			i := bytes.Index(part[at:], magic)
			if i < 0 {
				break
			}
			at += i
			_, _, err := readRecord(f, off+int64(at), size)
			if err == nil {
				return off + int64(at), nil
			}
			var bad badRecord
			if !errors.As(err, &bad) {
				return 0, err
			}
		}
	}
	return 0, nil
}
