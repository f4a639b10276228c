package backup

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
)

func uuidOf(id kadm.TopicID) string { return uuid.UUID(id).String() }

// Names without the checksum and what follows it.
func planName(id string) string     { return "backups/" + id + "/plan" }
func manifestName(id string) string { return "backups/" + id + "/manifest" }
func partKey(topicID string, p int32) string {
	return fmt.Sprintf("%s-%d", topicID, p)
}
func partName(id, topicID string, p int32) string {
	return "backups/" + id + "/parts/" + partKey(topicID, p)
}

func dataPrefix(topicID string, p int32) string { return fmt.Sprintf("data/%s/%d/", topicID, p) }

const (
	documentSuffix = ".json"
	batchesSuffix  = ".batches"
)

func objectName(topicID string, p int32, o Object) string {
	return fmt.Sprintf("%s%020d-%s%s", dataPrefix(topicID, p), o.First, o.SHA256, batchesSuffix)
}

// putDocument writes a document under its name and checksum.
func putDocument(ctx context.Context, place Place, name string, doc any) (sha256 string, err error) {
	b, err := encode(doc)
	if err != nil {
		return "", err
	}
	sha256 = sum(b)
	return sha256, place.Put(ctx, name+"-"+sha256+documentSuffix, b)
}

// parseDocument splits a document's name, without its directory, at its checksum.
func parseDocument(base string) (name, sha256 string, ok bool) {
	base, ok = strings.CutSuffix(base, documentSuffix)
	i := strings.LastIndexByte(base, '-')
	if !ok || i < 0 || !isSum(base[i+1:]) {
		return "", "", false
	}
	return base[:i], base[i+1:], true
}

// listParts finds the parts of a backup: topic id and partition to SHA-256.
func listParts(ctx context.Context, place Place, id string) (map[string]string, error) {
	parts := make(map[string]string)
	err := place.List(ctx, "backups/"+id+"/parts/", func(name string, _ int64) error {
		if key, sha256, ok := parseDocument(path.Base(name)); ok {
			parts[key] = sha256
		}
		return nil
	})
	return parts, err
}

// readPart reads a part of a backup and compares it with what it must be about.
func readPart(ctx context.Context, place Place, id string, t Topic, p int32, sha256 string) (*Part, error) {
	name := partName(id, t.ID, p) + "-" + sha256 + documentSuffix
	b, err := getNamed(ctx, place, name, sha256, maxDocument)
	if err != nil {
		return nil, aboutPartition(err, t, p)
	}
	part, err := DecodePart(b)
	if err == nil && (part.TopicID != t.ID || part.Topic != t.Name || part.Partition != p) {
		err = fmt.Errorf("it is about %s/%d", part.Topic, part.Partition)
	}
	if err != nil {
		return nil, &DamageError{Object: name, To: int64(len(b)), Topic: t.Name, Partition: p, First: t.Partitions[p].Start, Next: t.Partitions[p].End, Reason: err.Error()}
	}
	return &part, nil
}

// aboutPartition says which one a damage is about.
func aboutPartition(err error, t Topic, p int32) error {
	if d, ok := err.(*DamageError); ok {
		d.Topic, d.Partition, d.First, d.Next = t.Name, p, t.Partitions[p].Start, t.Partitions[p].End
	}
	return err
}

// parseObject reads the first offset from an object's name.
func parseObject(name string) (first int64, sha256 string, ok bool) {
	base, ok := strings.CutSuffix(path.Base(name), batchesSuffix)
	digits, sha256, cut := strings.Cut(base, "-")
	first, err := strconv.ParseInt(digits, 10, 64)
	return first, sha256, ok && cut && err == nil && first >= 0 && len(digits) == 20 && isSum(sha256)
}
