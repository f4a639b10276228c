package cluster

import (
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	meta := func(id string, epoch, create int64) *Meta {
		return &Meta{ClusterID: id, Epoch: epoch, CreateRevision: create}
	}
	mine := memory{etcdID: 7, revision: 100, meta: meta("c", 2, 5)}
	mine.counters = map[string]Counter{"producer-ids": {Next: 3001, ModRevision: 90}}
	mine.items = map[string]item{"topics/t": {modRevision: 70}, "nodes/1": {modRevision: 95}, "producer-ids": {modRevision: 90}}
	mine.items["topics/gone"] = item{modRevision: 80, value: []byte(`{"topic_id":"G","partitions":1,"replication_factor":1}`)}
	mine.at = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	later := func(d time.Duration, more ...string) sighting {
		s := sighting{etcdID: 7, revision: 110, meta: meta("c", 2, 5), at: mine.at.Add(d), items: map[string]item{"producer-ids": {modRevision: 101}, "topics/t": {modRevision: 70}}}
		for _, rel := range more {
			s.items[rel] = item{modRevision: 105}
		}
		return s
	}
	stuck := mine
	stuck.frozen, stuck.sticky = "lost", true
	for name, tt := range map[string]struct {
		m      memory
		s      sighting
		reason string
		sticky bool
	}{
		"lost its view":           {memory{clusterID: "c"}, sighting{etcdID: 7, revision: 1, meta: meta("c", 1, 1)}, "", false},
		"lost its view, misled":   {memory{clusterID: "c"}, sighting{etcdID: 7, revision: 1, meta: meta("d", 1, 1)}, "another cluster, d", false},
		"never had one":           {memory{}, sighting{etcdID: 7, revision: 1, meta: meta("c", 1, 1)}, "", false},
		"never had one, none yet": {memory{etcdID: 9}, sighting{etcdID: 7, revision: 1, meta: nil}, "", false},
		"the same":                {mine, sighting{etcdID: 7, revision: 100, meta: meta("c", 2, 5)}, "", false},
		"later":                   {mine, sighting{etcdID: 7, revision: 900, meta: meta("c", 2, 5)}, "", false},
		"another etcd":            {mine, sighting{etcdID: 8, revision: 900, meta: meta("c", 2, 5)}, "another etcd", false},
		"another, empty":          {mine, sighting{etcdID: 8, revision: 1, meta: nil}, "another etcd", false},
		"no meta":                 {mine, sighting{etcdID: 7, revision: 101, meta: nil}, "missing", true},
		"another cluster":         {mine, sighting{etcdID: 7, revision: 101, meta: meta("d", 9, 5)}, "another cluster", true},
		"older epoch":             {mine, sighting{etcdID: 7, revision: 101, meta: meta("c", 1, 5)}, "epoch 1", true},
		"older revision":          {mine, sighting{etcdID: 7, revision: 99, meta: meta("c", 2, 5)}, "revision 99", true},
		"made anew":               {mine, sighting{etcdID: 7, revision: 101, meta: meta("c", 2, 101)}, "made anew", true},
		"restored":                {mine, sighting{etcdID: 8, revision: 3, meta: meta("c", 3, 2)}, "", false},
		"numbers grew": {mine, sighting{etcdID: 7, revision: 110, meta: meta("c", 2, 5),
			counters: map[string]Counter{"producer-ids": {Next: 4001, ModRevision: 101}}}, "", false},
		"numbers went back": {mine, sighting{etcdID: 7, revision: 110, meta: meta("c", 2, 5),
			counters: map[string]Counter{"producer-ids": {Next: 2001, ModRevision: 101}}}, "producer-ids is at 2001", true},
		"numbers of long ago": {mine, sighting{etcdID: 7, revision: 110, meta: meta("c", 2, 5),
			counters: map[string]Counter{"producer-ids": {Next: 3001, ModRevision: 60}}}, "producer-ids is at 3001 since revision 60", true},
		"a topic is gone":             {mine, later(time.Hour), "topics/gone is gone", true},
		"a topic was deleted":         {mine, later(time.Hour, "deleted/G"), "", false},
		"a topic is gone, long after": {mine, later(7 * 24 * time.Hour), "", false},
		"the same history": {mine, sighting{etcdID: 7, revision: 110, meta: meta("c", 2, 5), items: map[string]item{
			"topics/t": {modRevision: 70}, "topics/u": {modRevision: 104}, "producer-ids": {modRevision: 101}}}, "", false},
		"a topic that was deleted": {mine, sighting{etcdID: 7, revision: 110, meta: meta("c", 2, 5), items: map[string]item{
			"topics/t": {modRevision: 70}, "topics/back": {modRevision: 50}, "producer-ids": {modRevision: 90}}}, "topics/back", true},
		"an older topic": {mine, sighting{etcdID: 7, revision: 110, meta: meta("c", 2, 5), items: map[string]item{
			"topics/t": {modRevision: 40}, "producer-ids": {modRevision: 90}}}, "this etcd says at revision 40", true},
		"no numbers": {mine, sighting{etcdID: 7, revision: 110, meta: meta("c", 2, 5), items: map[string]item{
			"topics/t": {modRevision: 70}}}, "producer-ids is gone", true},
		"stuck":               {stuck, sighting{etcdID: 7, revision: 900, meta: meta("c", 2, 5)}, "lost", true},
		"stuck, another etcd": {stuck, sighting{etcdID: 8, revision: 900, meta: meta("c", 2, 5)}, "another etcd", true},
		"stuck, restored":     {stuck, sighting{etcdID: 7, revision: 101, meta: meta("c", 3, 101)}, "", false},
	} {
		reason, sticky := judge(tt.m, tt.s)
		if (reason == "") != (tt.reason == "") || !strings.Contains(reason, tt.reason) || sticky != tt.sticky {
			t.Errorf("%s: %q, sticky %v", name, reason, sticky)
		}
	}
}
