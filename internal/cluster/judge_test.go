package cluster

import (
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	meta := func(id string, epoch, create int64) *Meta {
		return &Meta{ClusterID: id, Epoch: epoch, CreateRevision: create}
	}
	mine := memory{etcdID: 7, revision: 100, meta: meta("c", 2, 5)}
	stuck := mine
	stuck.frozen, stuck.sticky = "lost", true
	for name, tt := range map[string]struct {
		m      memory
		s      sighting
		reason string
		sticky bool
	}{
		"never had one":           {memory{}, sighting{7, 1, meta("c", 1, 1)}, "", false},
		"never had one, none yet": {memory{etcdID: 9}, sighting{7, 1, nil}, "", false},
		"the same":                {mine, sighting{7, 100, meta("c", 2, 5)}, "", false},
		"later":                   {mine, sighting{7, 900, meta("c", 2, 5)}, "", false},
		"another etcd":            {mine, sighting{8, 900, meta("c", 2, 5)}, "another etcd", false},
		"another, empty":          {mine, sighting{8, 1, nil}, "another etcd", false},
		"no meta":                 {mine, sighting{7, 101, nil}, "missing", true},
		"another cluster":         {mine, sighting{7, 101, meta("d", 9, 5)}, "another cluster", true},
		"older epoch":             {mine, sighting{7, 101, meta("c", 1, 5)}, "epoch 1", true},
		"older revision":          {mine, sighting{7, 99, meta("c", 2, 5)}, "revision 99", true},
		"made anew":               {mine, sighting{7, 101, meta("c", 2, 101)}, "made anew", true},
		"restored":                {mine, sighting{8, 3, meta("c", 3, 2)}, "", false},
		"stuck":                   {stuck, sighting{7, 900, meta("c", 2, 5)}, "lost", true},
		"stuck, another etcd":     {stuck, sighting{8, 900, meta("c", 2, 5)}, "another etcd", true},
		"stuck, restored":         {stuck, sighting{7, 101, meta("c", 3, 101)}, "", false},
	} {
		reason, sticky := judge(tt.m, tt.s)
		if (reason == "") != (tt.reason == "") || !strings.Contains(reason, tt.reason) || sticky != tt.sticky {
			t.Errorf("%s: %q, sticky %v", name, reason, sticky)
		}
	}
}
