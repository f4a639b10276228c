package backup

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/seglog"
)

// TestFlippedByte flips bytes of an object: each is refused, and the place that is
// named holds the byte and the batch that it is of.
func TestFlippedByte(t *testing.T) {
	data, o, starts := object(t)
	part := &Part{Topic: "orders", Partition: 3}
	if err := o.verify("x", part, data); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		at := r.IntN(len(data))
		if i < 61 { // every byte of a header
			at = starts[20] + i
		}
		bad := slices.Clone(data)
		bad[at] ^= byte(1 + r.IntN(255))
		batch := 0
		for starts[batch+1] <= at {
			batch++
		}
		hit, _, err := seglog.NextBatch(data[starts[batch]:])
		if err != nil {
			t.Fatal(err)
		}
		var d *DamageError
		switch err := o.verify("x", part, bad); {
		case !errors.As(err, &d):
			t.Fatalf("byte %d was flipped: %v", at, err)
		case int64(at) < d.From || int64(at) >= d.To || d.To-d.From > blockBytes:
			t.Fatalf("byte %d was flipped, bytes %d to %d are named: %v", at, d.From, d.To, err)
		case hit.BaseOffset() < d.First || hit.LastOffset() >= d.Next:
			t.Fatalf("byte %d of the batch from %d to %d was flipped, offsets %d to %d are named: %v", at, hit.BaseOffset(), hit.LastOffset(), d.First, d.Next-1, err)
		case d.Topic != "orders" || d.Partition != 3 || d.Object != "x":
			t.Fatalf("byte %d: %+v", at, d)
		case at-starts[batch] >= 61 && d.Next > hit.LastOffset()+51: // 50: the gap before the last
			t.Fatalf("byte %d of the batch from %d to %d was flipped, and %d to %d are named", at, hit.BaseOffset(), hit.LastOffset(), d.First, d.Next-1)
		}
	}
}

func TestWrongLength(t *testing.T) {
	data, o, _ := object(t)
	for _, bad := range [][]byte{data[:len(data)-1], append(slices.Clone(data), 0), {}} {
		var d *DamageError
		if err := o.verify("x", &Part{}, bad); !errors.As(err, &d) || !strings.Contains(d.Reason, "bytes") {
			t.Errorf("%d bytes of %d: %v", len(bad), len(data), err)
		}
	}
}

func TestSplit(t *testing.T) {
	data, _, starts := object(t)
	for name, start := range map[string]int64{"all": 0, "behind some batches": 110, "in a batch": 108} {
		var got []byte
		for rest := data; len(rest) > 0; {
			chunk, behind, err := split(rest, start)
			if err != nil {
				t.Fatal(err)
			}
			if len(chunk) > fillBytes {
				t.Fatalf("%s: %d bytes at a time", name, len(chunk))
			}
			got, rest = append(got, chunk...), behind
		}
		first, _, err := seglog.NextBatch(got)
		if err != nil || first.LastOffset() < start || first.BaseOffset() > max(start, 100) {
			t.Errorf("%s: from %d on the first batch is %d to %d, %v", name, start, first.BaseOffset(), first.LastOffset(), err)
		}
		if want := data[len(data)-len(got):]; !slices.Equal(got, want) || !slices.Contains(starts, len(data)-len(got)) {
			t.Errorf("%s: %d bytes of %d, and not the last ones", name, len(got), len(data))
		}
	}
}

func somePart(t testing.TB) Part {
	_, o, _ := object(t)
	return Part{Format: Format, Topic: "orders", TopicID: "811e3b6c-a37a-44c0-b658-73a728cc5da3", Partition: 3, Start: 101, End: 400, Objects: []Object{o}}
}

func someManifest(t testing.TB) Manifest {
	part := somePart(t)
	p := part.totals()
	p.Part = strings.Repeat("0a", 32)
	m := Manifest{
		Format: Format, ID: "20261122T021500.000Z", ClusterID: "c", Selection: []string{"o*"},
		Topics: []Topic{{Name: "orders", ID: part.TopicID, ReplicationFactor: 3, Config: map[string]string{"cleanup.policy": "compact,delete"}, Partitions: []Partition{p}}},
		Groups: []Group{{"g", []Offset{{"orders", 0, 5, "m"}}}},
	}
	m.Created = time.Date(2026, 11, 22, 2, 15, 0, 0, time.UTC)
	m.Completed = m.Created.Add(1)
	return m
}

func TestDecode(t *testing.T) {
	m, part := someManifest(t), somePart(t)
	b, err := encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeManifest(b); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v, %v", got, err)
	}
	if b, err = encode(part); err != nil {
		t.Fatal(err)
	}
	if got, err := DecodePart(b); err != nil || !reflect.DeepEqual(got, part) {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, change := range map[string]func(m *Manifest, p *Part){
		"a later format":       func(m *Manifest, p *Part) { m.Format, p.Format = 2, 2 },
		"a topic's id":         func(m *Manifest, p *Part) { m.Topics[0].ID, p.TopicID = "../..", "../.." },
		"a topic's name":       func(m *Manifest, p *Part) { m.Topics[0].Name, p.Topic = "a/b", "a/b" },
		"the end before start": func(m *Manifest, p *Part) { m.Topics[0].Partitions[0].End, p.End = 3, 3 },
		"a checksum":           func(m *Manifest, p *Part) { m.Topics[0].Partitions[0].Part, p.Objects[0].SHA256 = "x", "x" },
		"twice": func(m *Manifest, p *Part) {
			m.Topics, p.Objects = append(m.Topics, m.Topics[0]), append(p.Objects, p.Objects[0])
		},
		"an id or a length":        func(m *Manifest, p *Part) { m.ID, p.Objects[0].Bytes = "../x", 1<<40 },
		"a group's topic, blocks":  func(m *Manifest, p *Part) { m.Groups[0].Offsets[0].Topic, p.Objects[0].Blocks = "none", "00" },
		"no partition, behind end": func(m *Manifest, p *Part) { m.Topics[0].Partitions, p.Objects[0].Next = nil, 401 },
	} {
		m, part := someManifest(t), somePart(t)
		change(&m, &part)
		mb, err1 := json.Marshal(m)
		pb, err2 := json.Marshal(part)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeManifest(mb); err == nil {
			t.Errorf("%s: a manifest was taken", name)
		}
		if _, err := DecodePart(pb); err == nil {
			t.Errorf("%s: a part was taken", name)
		}
	}
}

func FuzzDecodeManifest(f *testing.F) {
	b, err := encode(someManifest(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":1,"id":"20261122T021500.000Z","cluster_id":"c","topics":[],"groups":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			return
		}
		m.Totals()
		for _, topic := range m.Topics {
			topic.Compacted()
			if strings.Contains(partName(m.ID, topic.ID, 0), "..") {
				t.Fatalf("a name leads out of the place: %q %q", m.ID, topic.ID)
			}
		}
		again, err := encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := DecodeManifest(again); err != nil || len(second.Topics) != len(m.Topics) {
			t.Fatalf("%+v became %+v, %v", m, second, err)
		}
	})
}

func FuzzDecodePart(f *testing.F) {
	b, err := encode(somePart(f))
	if err != nil {
		f.Fatal(err)
	}
	data, _, _ := object(f)
	f.Add(b, data)
	f.Add([]byte(`{"format":1,"topic":"t","topic_id":"811e3b6c-a37a-44c0-b658-73a728cc5da3","partition":0,"start":0,"end":9,"objects":[]}`), []byte{})
	f.Fuzz(func(t *testing.T, b, data []byte) {
		describe(data)
		split(data, 105)
		p, err := DecodePart(b)
		if err != nil {
			return
		}
		p.totals()
		for _, o := range p.Objects {
			objectName(p.TopicID, p.Partition, o)
			var d *DamageError
			if err := o.verify("x", &p, data); err != nil && (!errors.As(err, &d) || d.From > d.To) {
				t.Fatalf("%v", err)
			}
		}
	})
}
