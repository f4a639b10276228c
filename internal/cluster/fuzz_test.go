package cluster

import (
	"bytes"
	"testing"
)

// Whatever stands in etcd: no panic, and a view that was good stays good.
func FuzzDecodeValue(f *testing.F) {
	good := map[string]string{
		"meta":            `{"cluster_id":"c","epoch":1,"format":1,"created":"2026-01-01T00:00:00Z"}`,
		"nodes/1":         `{"node":1,"incarnation":"i","state":"ready"}`,
		"leader/ab12":     `{"node":1}`,
		"topics/t":        `{"topic_id":"T","partitions":3,"replication_factor":1,"config":{"a":"b"}}`,
		"assignments/t/0": `{"topic_id":"T","replicas":[{"node":1,"id":1,"incarnation":"i"}],"epoch":1,"generation":1}`,
		"status/1":        `{"node":1,"leads":{"t":{"0":1}}}`,
		"deleted/T":       `{"topic":"t","deleted":"2026-01-01T00:00:00Z"}`,
		"producer-ids":    `{"next":5}`,
		"replica-ids":     `{"next":5}`,
		"node-ids":        `{"next":5}`,
	}
	keys, err := NewKeys("", "c")
	if err != nil {
		f.Fatal(err)
	}
	quiet := func(string, item, error) {}
	d := reload(keys, &View{}, quiet)
	for rel, v := range good {
		f.Add(rel, []byte(v))
		d.put(rel, item{value: []byte(v), createRevision: 1, modRevision: 1})
	}
	f.Add("assignments/t/0", []byte(`{"topic_id":"T","replicas":[{"node":1},{"node":1}]}`))
	f.Add("assignments/../-1", []byte(`null`))
	f.Add("nodes/007", []byte(`[]`))
	f.Add("topics/t", []byte(`{"topic_id":"T","partitions":1e99}`))
	f.Add("topics/t", []byte(`{"topic_id":"T","partitions":100000,"replication_factor":9,"config":{}}`))
	base := d.next
	f.Fuzz(func(t *testing.T, rel string, value []byte) {
		d := revise(keys, &base, quiet)
		d.put(rel, item{value: value, createRevision: 9, modRevision: 9})
		v := &d.next
		if v.Meta == nil || len(v.Nodes) < 1 || len(v.Topics) < 1 || len(v.Assignments) < 1 || v.ReplicaIDs.Next < 1 {
			t.Fatalf("lost something: %+v", v)
		}
		for tp, a := range v.Assignments {
			if len(a.Replicas) == 0 || a.Generation < 1 || tp.Partition < 0 || ValidateTopicName(tp.Topic) != nil {
				t.Fatalf("%s: %+v", tp, a)
			}
		}
		for _, topic := range v.Topics {
			if topic.Partitions < 1 || topic.Partitions > MaxPartitions {
				t.Fatalf("%+v", topic)
			}
		}
		d.delete(rel)
		if len(base.Topics) != 1 || len(base.Broken) != 0 {
			t.Fatal("the old view was changed")
		}
	})
}

func FuzzDecodePicture(f *testing.F) {
	keys, err := NewKeys("", "c")
	if err != nil {
		f.Fatal(err)
	}
	p := picture{memory: memory{etcdID: 0xabc, revision: 9, frozen: "why", sticky: true}, items: map[string]item{
		"meta":     {value: []byte(`{"cluster_id":"<c>"}`), createRevision: 1, modRevision: 2},
		"nonsense": {value: []byte("\xff {"), lease: 5},
		"spaced":   {value: []byte(`{ "a" : 1 }`)},
		"null":     {value: []byte(`null`)},
		"empty":    {},
	}}
	data, err := encodePicture(keys, p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":1,"base":"/raftsman/c/","etcd_cluster_id":"1","keys":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodePicture(keys, data)
		if err != nil {
			return
		}
		out, err := encodePicture(keys, p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodePicture(keys, out)
		if err != nil || len(again.items) != len(p.items) || again.revision != p.revision || again.sticky != p.sticky {
			t.Fatalf("%v: %+v became %+v", err, p, again)
		}
		for k, it := range p.items {
			if !bytes.Equal(it.value, again.items[k].value) {
				t.Fatalf("%s: %q became %q", k, it.value, again.items[k].value)
			}
		}
	})
}
