package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/backup"
	"github.com/raftsman/raftsman/internal/seglog"
)

// madeBackup is a backup of one batch in a directory, as docs/formats.md has it.
func madeBackup(t *testing.T) (dir, object string) {
	t.Helper()
	dir = t.TempDir()
	put := func(name, suffix string, data []byte) (file, sum string) {
		t.Helper()
		s := sha256.Sum256(data)
		sum = hex.EncodeToString(s[:])
		file = filepath.Join(dir, filepath.FromSlash(name+"-"+sum+suffix))
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file, sum
	}
	doc := func(name string, value any) (sum string) {
		t.Helper()
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		_, sum = put(name, ".json", b)
		return sum
	}
	const id, topic = "20261122T021500.000Z", "811e3b6c-a37a-44c0-b658-73a728cc5da3"
	data := madeBatch(0, 5)
	object, sum := put("data/"+topic+"/0/00000000000000000000", ".batches", data)
	o := backup.Object{
		First: 0, Next: 1, Bytes: int64(len(data)), Batches: 1, SHA256: sum, MaxProducerID: 5, Last: backup.LastBatch{CRC: seglog.Batch(data).CRC()},
		Blocks: fmt.Sprintf("%08x", crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))),
	}
	part := doc("backups/"+id+"/parts/"+topic+"-0", backup.Part{Format: 1, Topic: "orders", TopicID: topic, End: 1, Objects: []backup.Object{o}})
	p := backup.Partition{End: 1, Part: part, Bytes: o.Bytes, Batches: 1, Objects: 1, MaxProducerID: 5}
	made := time.Date(2026, 11, 22, 2, 15, 0, 0, time.UTC)
	doc("backups/"+id+"/manifest", backup.Manifest{
		Format: 1, ID: id, ClusterID: "c1", Created: made, Completed: made.Add(time.Minute),
		Topics: []backup.Topic{{Name: "orders", ID: topic, ReplicationFactor: 3, Partitions: []backup.Partition{p}}},
	})
	return dir, object
}

// TestBackupWithoutCluster: what needs only the place, and what it exits with.
func TestBackupWithoutCluster(t *testing.T) {
	dir, object := madeBackup(t)
	out, err := execute(t, "backup", "list", dir, "-o", "json")
	if err != nil || !strings.Contains(out, `"state": "complete"`) || !strings.Contains(out, `"orders"`) {
		t.Errorf("list: %s %v", out, err)
	}
	if out, err := execute(t, "backup", "verify", dir); err != nil || !strings.Contains(out, "complete") {
		t.Errorf("verify: %s %v", out, err)
	}
	data, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	data[70] ^= 4
	if err := os.WriteFile(object, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = execute(t, "backup", "verify", dir)
	if exitCode(err) != exitRefused || !strings.Contains(out, filepath.Base(object)) || !strings.Contains(out, "topic orders, partition 0, offsets 0 to 0") {
		t.Errorf("verify of a flipped byte: exit code %d, %s", exitCode(err), out)
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"create", exitUsage, "needs a PLACE"},
		{"create ftp://x", exitUsage, "s3://"},
		{"create DIR --object-bytes 5", exitUsage, "--object-bytes"},
		{"create DIR --rate -1", exitUsage, "--rate"},
		{"create DIR --concurrency 0", exitUsage, "--concurrency"},
		{"list", exitUsage, "PLACE"},
		{"list s3://b --s3-endpoint nowhere", exitUsage, "http://"},
		{"verify DIR --id 20261122T021501.000Z", exitFailed, "raftsman backup list"},
		{"restore DIR --config x", exitUsage, "NAME=VALUE"},
		{"restore DIR/empty", exitFailed, "no complete backup"},
		{"restore DIR --brokers 127.0.0.1:1", exitFailed, "can't reach the cluster"},
	} {
		_, err := execute(t, append([]string{"backup"}, strings.Fields(strings.ReplaceAll(c.args, "DIR", dir))...)...)
		if exitCode(err) != c.code || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("backup %s: exit code %d, %v; want %d and %q", c.args, exitCode(err), err, c.code, c.says)
		}
	}
}
