package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// Format is the version of manifests, plans and parts.
	Format = 1

	maxDocument   = 512 << 20 // bytes of a manifest, plan or part
	maxPartitions = 100_000   // of a topic
	maxObject     = 128 << 20 // bytes
	idLayout      = "20060102T150405.000Z"
)

// Manifest is a backup; without Completed, the plan of one.
type Manifest struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`
	ClusterID string    `json:"cluster_id"`
	Created   time.Time `json:"created"`
	Completed time.Time `json:"completed,omitzero"`
	// Selection is which topics were asked for; none is all.
	Selection []string `json:"selection,omitempty"`
	NoGroups  bool     `json:"no_groups,omitempty"`
	Topics    []Topic  `json:"topics"`
	Groups    []Group  `json:"groups"`
}

// Topic is one of a backup.
type Topic struct {
	Name              string            `json:"name"`
	ID                string            `json:"topic_id"`
	ReplicationFactor int16             `json:"replication_factor"`
	Config            map[string]string `json:"config,omitempty"` // what differs from the cluster's defaults
	Partitions        []Partition       `json:"partitions"`       // by number, from 0
}

// Compacted says whether the topic's cleanup.policy has compact in it.
func (t Topic) Compacted() bool {
	return slices.Contains(strings.Split(strings.ReplaceAll(t.Config["cleanup.policy"], " ", ""), ","), "compact")
}

// Partition is one of a Topic.
type Partition struct {
	// Start is the log start and End one behind the last offset.
	Start int64 `json:"start"`
	End   int64 `json:"end"`
	// The rest is missing in a plan. Part is the SHA-256 of the Part.
	Part    string `json:"part,omitempty"`
	Bytes   int64  `json:"bytes,omitempty"`
	Batches int64  `json:"batches,omitempty"`
	Objects int    `json:"objects,omitempty"`
	// MaxProducerID is the highest in it, or -1.
	MaxProducerID int64 `json:"max_producer_id,omitempty"`
}

// Group is a consumer group with what it has committed.
type Group struct {
	Group   string   `json:"group"`
	Offsets []Offset `json:"offsets"`
}

// Offset is one that a group has committed.
type Offset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Metadata  string `json:"metadata,omitempty"`
}

// Complete says that it is a manifest, not a plan.
func (m *Manifest) Complete() bool { return !m.Completed.IsZero() }

// Totals are the sums of all partitions.
func (m *Manifest) Totals() (partitions int, batches, bytes int64) {
	for _, t := range m.Topics {
		partitions += len(t.Partitions)
		for _, p := range t.Partitions {
			batches, bytes = batches+p.Batches, bytes+p.Bytes
		}
	}
	return partitions, batches, bytes
}

// topic finds a topic by its id.
func (m *Manifest) topic(id string) (Topic, bool) {
	i := slices.IndexFunc(m.Topics, func(t Topic) bool { return t.ID == id })
	if i < 0 {
		return Topic{}, false
	}
	return m.Topics[i], true
}

// DecodeManifest reads a manifest or a plan.
func DecodeManifest(b []byte) (m Manifest, err error) {
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("manifest of a backup: %w", err)
	}
	if m.Format != Format {
		return m, fmt.Errorf("manifest of a backup has format %d, this program knows %d: run a newer one", m.Format, Format)
	}
	if !validID(m.ID) || m.ClusterID == "" {
		return m, fmt.Errorf("manifest of a backup: id %.50q of cluster %.50q", m.ID, m.ClusterID)
	}
	names, ids := make(map[string]bool), make(map[string]bool)
	for _, t := range m.Topics {
		if err := t.check(m.Complete()); err != nil {
			return m, fmt.Errorf("manifest of backup %s: topic %.300q: %w", m.ID, t.Name, err)
		}
		if names[t.Name] || ids[t.ID] {
			return m, fmt.Errorf("manifest of backup %s: topic %.300q is there twice", m.ID, t.Name)
		}
		names[t.Name], ids[t.ID] = true, true
	}
	for _, g := range m.Groups {
		for _, o := range g.Offsets {
			if o.Offset < 0 || o.Partition < 0 || !names[o.Topic] {
				return m, fmt.Errorf("manifest of backup %s: group %.300q: %s/%d at %d", m.ID, g.Group, o.Topic, o.Partition, o.Offset)
			}
		}
	}
	return m, nil
}

func (t Topic) check(complete bool) error {
	if !validTopic(t.Name) || !validTopicID(t.ID) || t.ReplicationFactor < 1 {
		return fmt.Errorf("id %.50q, replication factor %d", t.ID, t.ReplicationFactor)
	}
	if n := len(t.Partitions); n < 1 || n > maxPartitions {
		return fmt.Errorf("%d partitions", n)
	}
	for i, p := range t.Partitions {
		if p.Start < 0 || p.End < p.Start || p.Bytes < 0 || p.Batches < 0 || p.Objects < 0 || p.MaxProducerID < -1 {
			return fmt.Errorf("partition %d: %+v does not fit", i, p)
		}
		if complete != isSum(p.Part) {
			return fmt.Errorf("partition %d: its part is %.80q", i, p.Part)
		}
	}
	return nil
}

// validTopic is Kafka's rule; names become parts of no path, all the same.
func validTopic(name string) bool {
	const legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	return name != "" && len(name) <= 249 && name != "." && name != ".." && strings.Trim(name, legal) == ""
}

func validTopicID(id string) bool {
	u, err := uuid.Parse(id)
	return err == nil && u.String() == id
}

func validID(id string) bool {
	t, err := time.Parse(idLayout, id)
	return err == nil && t.Format(idLayout) == id
}

func isSum(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// encode is how documents are written.
func encode(doc any) ([]byte, error) {
	b, err := json.MarshalIndent(doc, "", " ")
	if err == nil && len(b) > maxDocument {
		err = errors.New("there is too much in it: back up fewer topics at a time")
	}
	return append(b, '\n'), err
}
