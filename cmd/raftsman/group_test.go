package main

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func TestParseWhere(t *testing.T) {
	now, day := time.UnixMilli(100_900_000), time.Date(1970, 1, 2, 0, 0, 0, 0, time.Local)
	for _, tc := range []struct {
		text string
		want where
		bad  bool
	}{
		{"earliest", where{kind: toEarliest}, false},
		{"latest", where{kind: toLatest}, false},
		{"0", where{kind: toOffset}, false},
		{"4200", where{kind: toOffset, offset: 4200}, false},
		{"1970-01-01T00:00:01.5Z", where{kind: toTime, ms: 1500}, false},
		{"1970-01-01T01:00:00+01:00", where{kind: toTime}, false},
		{"", where{}, true},
		{"1969-12-31T23:59:59Z", where{}, true},
		{"2026-11-21", where{}, true},
		{"start", where{kind: toEarliest}, false},
		{"end", where{kind: toLatest}, false},
		{"-7", where{kind: toTail, offset: 7}, false},
		{"@1500", where{kind: toTime, ms: 1500}, false},
		{"@-15m", where{kind: toTime, ms: 100_000_000}, false},
		{"@15m", where{kind: toTime, ms: 101_800_000}, false},
		{"@1970-01-02", where{kind: toTime, ms: day.UnixMilli()}, false},
		{"@1970-01-02T00:00", where{kind: toTime, ms: day.UnixMilli()}, false},
		{"@1970-01-01T00:00:01Z", where{kind: toTime, ms: 1000}, false},
		{"@-9999h", where{}, true},
		{"@", where{}, true},
		{"1.5", where{}, true},
		{"middle", where{}, true},
	} {
		if got, err := parseWhere("--to", tc.text, now); got != tc.want || (err != nil) != tc.bad {
			t.Errorf("%q: got %+v, %v", tc.text, got, err)
		}
	}
}

func TestParseChosen(t *testing.T) {
	got, err := parseChosen([]string{"a", "b:0,3", "b:1"})
	if err != nil || len(got) != 2 || got["a"] != nil || !slices.Equal(got["b"], []int32{0, 3, 1}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", ":1", "a:", "a:x", "a:-1", "a:99999999999"} {
		if _, err := parseChosen([]string{bad}); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestResetPlaces(t *testing.T) {
	listed := func(offsets ...int64) kadm.ListedOffsets {
		all := make(map[int32]kadm.ListedOffset)
		for p, o := range offsets {
			all[int32(p)] = kadm.ListedOffset{Topic: "t", Partition: int32(p), Offset: o}
		}
		return kadm.ListedOffsets{"t": all}
	}
	b := limits{starts: listed(10, 0), ends: listed(20, 0), times: listed(15, -1)}
	for _, tc := range []struct {
		to        where
		partition int32
		want      int64
	}{
		{where{kind: toEarliest}, 0, 10},
		{where{kind: toLatest}, 0, 20},
		{where{kind: toOffset, offset: 12}, 0, 12},
		{where{kind: toOffset, offset: 5}, 0, 10},
		{where{kind: toOffset, offset: 50}, 0, 20},
		{where{kind: toTail, offset: 3}, 0, 17},
		{where{kind: toTail, offset: 30}, 0, 10},
		{where{kind: toTime}, 0, 15},
		{where{kind: toTime}, 1, 0}, // no record is that late
	} {
		if got, err := b.place(tc.to, "t", tc.partition); err != nil || got != tc.want {
			t.Errorf("%+v of partition %d: got %d, %v; want %d", tc.to, tc.partition, got, err, tc.want)
		}
	}
	b.ends["t"][0] = kadm.ListedOffset{Topic: "t", Err: kerr.LeaderNotAvailable}
	if _, err := b.place(where{kind: toLatest}, "t", 0); err == nil {
		t.Error("a partition without a leader has an end")
	}
	if _, err := b.place(where{kind: toLatest}, "t", 7); err == nil {
		t.Error("a partition that does not exist has an end")
	}
}

func TestGroupTable(t *testing.T) {
	number := func(n int64) *int64 { return &n }
	d := groupDescription{
		groupInfo: groupInfo{"g", "Stable", "consumer", 2}, Protocol: "range",
		Members: []groupMember{{ID: "m-1", Client: "c", Host: "10.0.0.9", Assigned: map[string][]int32{"b": {0}, "a": {0, 1}}}},
		Offsets: []groupOffset{
			{Topic: "a", Partition: 0, Committed: number(5), End: number(9), Lag: number(4), Member: "m-1"},
			{Topic: "a", Partition: 1, Member: "m-1"},
		},
	}
	var out bytes.Buffer
	if err := renderTo(&out, d.table); err != nil {
		t.Fatal(err)
	}
	want := `group        g
state        Stable
protocol     consumer/range
coordinator  2

MEMBER  INSTANCE  CLIENT  HOST      ASSIGNED
m-1     -         c       10.0.0.9  a:0,1 b:0

TOPIC  PARTITION  COMMITTED  END  LAG  MEMBER
a      0          5          9    4    m-1
a      1          -          -    -    m-1
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestGroupWithMembersIsRefused(t *testing.T) {
	if err := refuseMembers(kadm.DescribedGroup{Group: "g", State: "Empty"}); err != nil {
		t.Error(err)
	}
	err := refuseMembers(kadm.DescribedGroup{Group: "g", Members: make([]kadm.DescribedGroupMember, 2)})
	if exitCode(err) != exitRefused {
		t.Errorf("got %v", err)
	}
}
