package manifest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

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
	end, torn, err := scanFile(s.file, s.opts.Identity, func(r Record, size, payload int64) {
		if r.Dropped {
			delete(s.latest, r.Group)
			return
		}
		s.latest[r.Group] = entry{meta: r.Meta, offset: r.Offset, size: size, payload: payload}
	})
	if err != nil {
		return err
	}
	s.end = end
	for _, e := range s.latest {
		s.live += e.size
	}
	if !torn {
		return nil
	}
	s.opts.Logger.Info("cut a torn record off the manifest log", "file", s.file.Name(), "offset", end)
	if err := s.file.Truncate(end); err != nil {
		return fmt.Errorf("cut manifest log %s: %w", s.file.Name(), err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("cut manifest log %s: %w", s.file.Name(), err)
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
	_, _, err = scanFile(f, id, func(r Record, _, _ int64) { fn(r) })
	return id, err
}

// scanFile calls fn for every record. It returns where the valid records end
// and whether something torn follows there.
func scanFile(f vfs.File, want identity.Identity, fn func(r Record, size, payload int64)) (end int64, torn bool, err error) {
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
		rec, n, payload, err := readRecord(f, off, size)
		if err == nil {
			fn(rec, n, payload)
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
	if string(head[:len(fileMagic)]) != fileMagic {
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

func readRecord(f vfs.File, off, size int64) (rec Record, n, payload int64, err error) {
	if size-off < recordHeader {
		return rec, 0, 0, badRecord("too short for a record")
	}
	head := make([]byte, recordHeader)
	if _, err := f.ReadAt(head, off); err != nil {
		return rec, 0, 0, err
	}
	if binary.LittleEndian.Uint32(head) != recordMagic {
		return rec, 0, 0, badRecord("no record begins here")
	}
	length := int64(binary.LittleEndian.Uint32(head[4:]))
	if length > maxBody || length > size-off-recordHeader {
		return rec, 0, 0, badRecord("length of the record is impossible")
	}
	buf := make([]byte, recordHeader+length)
	if _, err := f.ReadAt(buf, off); err != nil {
		return rec, 0, 0, err
	}
	if err := checkRecord(buf); err != nil {
		return rec, 0, 0, err
	}
	rec, metaLen, err := decodeBody(buf[recordHeader:])
	if err != nil {
		return rec, 0, 0, err
	}
	rec.Offset = off
	return rec, int64(len(buf)), off + recordHeader + 13 + metaLen, nil
}

func checkRecord(buf []byte) error {
	if crc32.Checksum(buf[recordHeader:], castagnoli) != binary.LittleEndian.Uint32(buf[8:]) {
		return badRecord("checksum of the record is wrong")
	}
	return nil
}

func decodeBody(body []byte) (rec Record, metaLen int64, err error) {
	if len(body) < 9 {
		return rec, 0, badRecord("record is too short")
	}
	rec.Group = binary.LittleEndian.Uint64(body[1:])
	switch body[0] {
	case kindDrop:
		rec.Dropped = true
		return rec, 0, nil
	case kindSnapshot:
	default:
		return rec, 0, badRecord(fmt.Sprintf("kind %d of the record is unknown", body[0]))
	}
	if len(body) < 13 {
		return rec, 0, badRecord("record is too short")
	}
	metaLen = int64(binary.LittleEndian.Uint32(body[9:]))
	if metaLen > maxMeta || metaLen > int64(len(body)-13) {
		return rec, 0, badRecord("length of the record's meta is impossible")
	}
	if err := json.Unmarshal(body[13:13+metaLen], &rec.Meta); err != nil {
		return rec, 0, badRecord("meta of the record: " + err.Error())
	}
	rec.Payload = body[13+metaLen:]
	return rec, metaLen, nil
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
			_, _, _, err := readRecord(f, off+int64(at), size)
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
