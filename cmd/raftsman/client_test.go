package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/spf13/cobra"
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

func TestParseOffset(t *testing.T) {
	for _, tc := range []struct {
		text string
		want int64
		ok   bool
	}{
		{"beginning", fromBeginning, true}, {"end", fromEnd, true}, {"0", 0, true}, {"42", 42, true},
		{"-1", 0, false}, {"", 0, false}, {"1.5", 0, false}, {"start", 0, false},
	} {
		got, err := parseOffset(tc.text)
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("%q: got %d, %v", tc.text, got, err)
		}
	}
}

func TestSpanFrom(t *testing.T) {
	for _, tc := range []struct {
		offset int64
		follow bool
		want   int64 // the start; -1: an error
	}{
		{fromBeginning, false, 10}, {fromEnd, false, 20}, {fromEnd, true, 20},
		{5, false, 10}, {15, false, 15}, {20, true, 20}, {25, false, 25}, {25, true, -1},
	} {
		got, err := span{10, 20}.from(tc.offset, tc.follow)
		if (err != nil) != (tc.want < 0) || err == nil && got.start != tc.want {
			t.Errorf("offset %d, follow %v: got %+v, %v", tc.offset, tc.follow, got, err)
		}
	}
	all := spans{0: {10, 20}, 1: {20, 20}, 2: {25, 20}}
	all.dropEmpty()
	if _, ok := all[0]; !ok || len(all) != 1 {
		t.Errorf("left %v", all)
	}
}

func TestPrinters(t *testing.T) {
	r := &kgo.Record{
		Topic: "t", Partition: 3, Offset: 7, Key: []byte("k"), Value: []byte("a\xff\r"), Timestamp: time.UnixMilli(1500).UTC(),
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
	} {
		print, err := newPrinter(tc.output, tc.key, tc.offset)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(print(nil, r)); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.output, got, tc.want)
		}
	}
	for _, bad := range []string{"", "xml", "%q{", "%"} {
		if _, err := newPrinter(bad, false, false); err == nil {
			t.Errorf("-o %q passes", bad)
		}
	}
}

// Whatever the bytes are, -o json gives them back.
func TestJSONLosesNothing(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	values := [][]byte{nil, {}, []byte("text"), []byte("<\u2028>"), {0xff}, {0}}
	for range 200 {
		v := make([]byte, rnd.IntN(20))
		for i := range v {
			v[i] = byte(rnd.Uint32())
		}
		values = append(values, v)
	}
	for _, want := range values {
		line := appendJSON(nil, &kgo.Record{Topic: "t", Value: want, Headers: []kgo.RecordHeader{{Key: "h", Value: want}}})
		if bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("%q is not one line", line)
		}
		var j jsonRecord
		if err := json.Unmarshal(line, &j); err != nil {
			t.Fatal(err)
		}
		back := func(s *string, raw []byte) []byte {
			if s != nil {
				return []byte(*s)
			}
			return raw
		}
		for _, got := range [][]byte{back(j.Value, j.ValueBase64), back(j.Headers[0].Value, j.Headers[0].ValueBase64)} {
			if !bytes.Equal(got, want) || (got == nil) != (want == nil) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
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
