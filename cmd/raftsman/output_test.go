package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"testing"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

type sample struct {
	Name  string   `json:"name"`
	Texts []string `json:"texts"`
	Count int64    `json:"count"`
	None  *int64   `json:"none"`
}

// tricky are strings that YAML would take for something else, and characters
// that encoders like to escape.
var tricky = []string{"true", "12", "1e3", "null", "", "a: b", "- x", "<&>", "ü\u2028\U0001f600", "two\nlines", "~", "0x10", "2026-01-02"}

func rendered(t *testing.T, format outputFormat) []byte {
	t.Helper()
	var out bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetOut(&out)
	v := sample{Name: "a<b", Texts: tricky, Count: 1 << 60}
	err := render(cmd, format, v, func(w io.Writer) {
		cells(w, "NAME", "COUNT")
		cells(w, "a-long-name", 7)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRenderTable(t *testing.T) {
	want := "NAME         COUNT\na-long-name  7\n"
	if got := string(rendered(t, "table")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRenderRoundTrips(t *testing.T) {
	check := func(format string, name string, texts []string, count int64) {
		t.Helper()
		if name != "a<b" || count != 1<<60 || len(texts) != len(tricky) {
			t.Fatalf("%s: got %q, %d, %q", format, name, count, texts)
		}
		for i := range texts {
			if texts[i] != tricky[i] {
				t.Errorf("%s: got %q, want %q", format, texts[i], tricky[i])
			}
		}
	}
	var j sample
	if err := json.Unmarshal(rendered(t, "json"), &j); err != nil {
		t.Fatal(err)
	}
	check("json", j.Name, j.Texts, j.Count)

	var y struct {
		Name  string
		Texts []any // not strings: a bool must not pass for one
		Count int64
	}
	if err := yaml.Unmarshal(rendered(t, "yaml"), &y); err != nil {
		t.Fatal(err)
	}
	texts := make([]string, len(y.Texts))
	for i, v := range y.Texts {
		s, ok := v.(string)
		if !ok {
			t.Fatalf("yaml: %q became %T", tricky[i], v)
		}
		texts[i] = s
	}
	check("yaml", y.Name, texts, y.Count)
}

// TestNobodyReadsTheNullDevice: a script's /dev/null is a device, and no person.
func TestNobodyReadsTheNullDevice(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if isTerminal(null) {
		t.Error("the null device passes for a terminal")
	}
}
