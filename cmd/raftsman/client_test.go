package main

import (
	"bufio"
	"bytes"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestBrokersComeFromFlagThenEnvironment(t *testing.T) {
	for _, tc := range []struct{ flag, env, want string }{
		{"", "", "127.0.0.1:9092"},
		{"", "a:1, b:2,", "a:1 b:2"},
		{"c:3,d:4", "a:1", "c:3 d:4"},
	} {
		clearEnv(t)
		t.Setenv("RAFTSMAN_BROKERS", tc.env)
		var k kafkaFlags
		cmd := &cobra.Command{}
		k.bind(cmd)
		if tc.flag != "" {
			if err := cmd.Flags().Set("brokers", tc.flag); err != nil {
				t.Fatal(err)
			}
		}
		got, err := k.addresses(cmd)
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("flag %q, environment %q: got %q, %v; want %s", tc.flag, tc.env, got, err, tc.want)
		}
	}
}

func TestHTTPURL(t *testing.T) {
	for _, tc := range []struct{ addr, want string }{
		{"127.0.0.1:8080", "http://127.0.0.1:8080/readyz"},
		{"http://h:1/", "http://h:1/readyz"},
		{"https://h", "https://h/readyz"},
		{"[::1]:8080", "http://[::1]:8080/readyz"},
		{"ftp://h", ""},
		{"", ""},
		{"http://h:port", ""},
	} {
		got, err := httpURL(tc.addr, "/readyz")
		if got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%q: got %q, %v; want %q", tc.addr, got, err, tc.want)
		}
	}
}

func TestParseTopicConfig(t *testing.T) {
	got, err := parseTopicConfig([]string{"a=1", "b=x=y", "c="})
	if err != nil || *got["a"] != "1" || *got["b"] != "x=y" || *got["c"] != "" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"a", "=1", ""} {
		if _, err := parseTopicConfig([]string{bad}); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestTopicChanges(t *testing.T) {
	got, err := topicChanges([]string{"b=2", "a=1"}, []string{"c"})
	text := ""
	for _, c := range got {
		text += c.Name + " "
	}
	if err != nil || text != "a b c " || *got[0].Value != "1" || got[2].Value != nil || got[0].Op == got[2].Op {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range [][2]string{{"a=1", "a"}, {"a=1", ""}, {"a=1", "b=2"}, {"a", "b"}} {
		if _, err := topicChanges([]string{bad[0]}, []string{bad[1]}); err == nil {
			t.Errorf("%v passes", bad)
		}
	}
}

func TestSplitLinesKeepsEveryByte(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"\n", []string{""}},
		{"a", []string{"a"}},
		{"a\nb\n", []string{"a", "b"}},
		{"a\r\n\n\x00\xff", []string{"a\r", "", "\x00\xff"}},
	} {
		lines := bufio.NewScanner(iotest.OneByteReader(strings.NewReader(tc.in)))
		lines.Split(splitLines)
		var got []string
		for lines.Scan() {
			got = append(got, lines.Text())
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%q: got %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestSplitKey(t *testing.T) {
	for _, tc := range []struct {
		line, separator, key, value string
		ok                          bool
	}{
		{"k:v", "", "", "k:v", true},
		{"k:v:w", ":", "k", "v:w", true},
		{":v", ":", "", "v", true},
		{"k:", ":", "k", "", true},
		{"k=>v", "=>", "k", "v", true},
		{"v", ":", "", "", false},
	} {
		key, value, ok := splitKey([]byte(tc.line), []byte(tc.separator))
		if ok != tc.ok || ok && (string(key) != tc.key || string(value) != tc.value || value == nil) {
			t.Errorf("%q at %q: got %q, %q, %v", tc.line, tc.separator, key, value, ok)
		}
	}
	if _, value, _ := splitKey(nil, nil); value == nil {
		t.Error("an empty line is a missing value")
	}
}

func TestConsumeSpans(t *testing.T) {
	listed := func(offset int64) kadm.ListedOffsets {
		return kadm.ListedOffsets{"t": {0: {Topic: "t", Offset: offset}}}
	}
	const forever = math.MaxInt64
	for _, tc := range []struct {
		offset, until string
		follow        bool
		time          int64 // what the time is at
		start, end    int64 // start -1: an error
	}{
		{"start", "", false, 0, 10, 20},
		{"beginning", "", true, 0, 10, forever},
		{"end", "", false, 0, 20, 20},
		{"latest", "", true, 0, 20, forever},
		{"5", "", false, 0, 10, 20},
		{"15", "", true, 0, 15, forever},
		{"25", "", false, 0, 20, 20},
		{"25", "", true, 0, -1, 0},
		{"-3", "", false, 0, 17, 20},
		{"-99", "15", false, 0, 10, 15},
		{"@5000", "", false, 12, 12, 20},
		{"@5000", "", false, -1, 20, 20},
		{"start", "@5000", false, 12, 10, 12},
		{"start", "@5000", true, -1, 10, forever},
		{"start", "@5000", true, 12, 10, 12},
		{"start", "-5", false, 0, 10, 15},
		{"start", "30", false, 0, 10, 20},
		{"start", "30", true, 0, 10, 30},
		{"start", "end", true, 0, 10, 20},
	} {
		c := consumeFlags{offset: tc.offset, until: tc.until, follow: tc.follow, format: "value", timeout: 1}
		if err := c.parse(); err != nil {
			t.Fatal(err)
		}
		l := limits{starts: listed(10), ends: listed(20), times: listed(tc.time)}
		got, err := c.span(l, l, "t", 0)
		if (err != nil) != (tc.start < 0) || err == nil && got != (span{tc.start, tc.end}) {
			t.Errorf("%+v: got %+v, %v", tc, got, err)
		}
	}
	all := spans{0: {10, 20}, 1: {20, 20}, 2: {25, 20}}
	all.dropEmpty()
	if _, ok := all[0]; !ok || len(all) != 1 {
		t.Errorf("left %v", all)
	}
}

func TestFilters(t *testing.T) {
	r := &kgo.Record{Key: []byte("user-17"), Value: []byte(`{"total":1234}`), Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("x1")}, {Key: "a", Value: []byte("y2")}, {Key: "b"}}}
	for _, tc := range []struct {
		key, value string
		headers    []string
		want       bool
	}{
		{"", "", nil, true},
		{"ser", "", nil, true},
		{"^user", "", nil, false}, // no regular expression
		{"/^user-1./", "total", nil, true},
		{"user", "/total.:[0-9]{5}/", nil, false},
		{"", "", []string{"a", "b"}, true},
		{"", "", []string{"c"}, false},
		{"", "", []string{"a=y"}, true},
		{"", "", []string{"a=/^.2$/", "a=x1"}, true},
		{"", "", []string{"b=z"}, false},
		{"", "", []string{"b="}, true},
		{"/", "", nil, false},
	} {
		f, err := newFilter(tc.key, tc.value, tc.headers)
		if err != nil || f.wants(r) != tc.want {
			t.Errorf("%+v: %v, %v", tc, err, f.wants(r))
		}
		if f.wants(&kgo.Record{}) != (tc.key == "" && tc.value == "" && tc.headers == nil) {
			t.Errorf("%+v: wrong of a record that is empty", tc)
		}
	}
	for _, bad := range [][3]string{{"/(/", "", "a"}, {"", "/[/", "a"}, {"", "", "=x"}, {"", "", ""}, {"", "", "a=/(/"}} {
		if _, err := newFilter(bad[0], bad[1], bad[2:]); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestPrinters(t *testing.T) {
	r := &kgo.Record{
		Topic: "t", Partition: 3, Offset: 7, Key: []byte("k"), Value: []byte("a\xff\r"), Timestamp: time.UnixMilli(1500).UTC(),
		Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}},
	}
	for _, tc := range []struct {
		output      string
		key, offset bool
		want        string
	}{
		{"value", false, false, "a\xff\r\n"},
		{"value", true, false, "k\ta\xff\r\n"},
		{"value", true, true, "3\t7\tk\ta\xff\r\n"},
		{`%p %o %d %k\n`, false, false, "3 7 1500 k\n"},
		{"raw", false, false, "a\xff\r"},
		{"hex", false, false, "3\t7\t6b\t61ff0d\n"},
		{"yaml", false, false, "---\ntopic: t\npartition: 3\noffset: 7\ntimestamp: \"1970-01-01T00:00:01.500Z\"\nkey: k\nvalue: null\nvalue_base64: Yf8N\nheaders:\n  - key: h\n    value: \"1\"\n"},
		{`{{.Topic}}/{{.Partition}} {{.Offset}} {{.Timestamp.Unix}} {{json .Key}} {{hex .Value}} {{range .Headers}}{{.Key}}={{base64 .Value}}{{end}}`, false, false, "t/3 7 1 \"k\" 61ff0d h=MQ==\n"},
	} {
		print, err := newPrinter(tc.output, tc.key, tc.offset)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(print(nil, r)); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.output, got, tc.want)
		}
	}
	for _, bad := range []string{"", "xml", "%q{", "%", "{{.Nothing}}", "{{", "{{nothing .Key}}"} {
		if _, err := newPrinter(bad, false, false); err == nil {
			t.Errorf("--format %q passes", bad)
		}
	}
}

// TestJSONRoundTrips: whatever the bytes are, produce reads back what consume has
// written.
func TestJSONRoundTrips(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	values := [][]byte{nil, {}, []byte("text"), []byte("<\u2028>"), {0xff}, {0}}
	for range 200 {
		v := make([]byte, rnd.IntN(20))
		for i := range v {
			v[i] = byte(rnd.Uint32())
		}
		values = append(values, v)
	}
	same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	p := produceFlags{format: "json", partition: -1, keepPartitions: true}
	parse, err := p.parser()
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		want := &kgo.Record{Topic: "t", Partition: int32(i), Key: values[len(values)-1-i], Value: v, Timestamp: time.UnixMilli(int64(i)).UTC(), Headers: []kgo.RecordHeader{{Key: "h", Value: v}}}
		line := appendJSON(nil, want)
		if bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("%q is not one line", line)
		}
		got, err := parse(line)
		if err != nil {
			t.Fatal(err)
		}
		if !same(got.Key, want.Key) || !same(got.Value, v) || got.Partition != want.Partition || !got.Timestamp.Equal(want.Timestamp) ||
			len(got.Headers) != 1 || got.Headers[0].Key != "h" || !same(got.Headers[0].Value, v) {
			t.Errorf("got %+v of %s", got, line)
		}
	}
}

func TestWrongLines(t *testing.T) {
	for _, tc := range []struct {
		flags produceFlags
		line  string
		want  string
	}{
		{produceFlags{format: "lines", keySeparator: ":"}, "v", "no key"},
		{produceFlags{format: "json"}, "", "not a JSON object"},
		{produceFlags{format: "json"}, "null", "not a JSON object"},
		{produceFlags{format: "json"}, `{"vaule":"x"}`, "vaule"},
		{produceFlags{format: "json"}, `{"value":7}`, "not a record"},
		{produceFlags{format: "json"}, `{"value":"x"} {}`, "follows"},
		{produceFlags{format: "json"}, `{"timestamp":"today"}`, "today"},
		{produceFlags{format: "json"}, `{"value_base64":"!"}`, "not a record"},
		{produceFlags{format: "json", keepPartitions: true}, `{"partition":-1}`, "below 0"},
	} {
		parse, err := tc.flags.parser()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse([]byte(tc.line)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v", tc.line, err)
		}
	}
	p := produceFlags{format: "lines", key: "k", headers: []string{"a=1", "b="}, partition: 4}
	parse, err := p.parser()
	if err != nil {
		t.Fatal(err)
	}
	if r, err := parse([]byte("v")); err != nil || string(r.Key) != "k" || string(r.Value) != "v" || r.Partition != 4 || len(r.Headers) != 2 || string(r.Headers[0].Value) != "1" {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestVersionOf(t *testing.T) {
	vcs := func(rev, modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: rev}, {Key: "vcs.modified", Value: modified}}
	}
	for _, tc := range []struct {
		info debug.BuildInfo
		want string
	}{
		{debug.BuildInfo{}, "devel"},
		{debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "devel"},
		{debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "v1.2.3"},
		{debug.BuildInfo{Settings: vcs("0123456789abcdef", "false")}, "devel-0123456789ab"},
		{debug.BuildInfo{Settings: vcs("0123456789abcdef", "true")}, "devel-0123456789ab-dirty"},
	} {
		if got := versionOf(&tc.info); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}
