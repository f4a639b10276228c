package clients

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table in docs/kafka-compatibility.md instead of comparing it")

const (
	tableBegin = "<!-- made by test/clients: begin -->\n"
	tableEnd   = "<!-- made by test/clients: end -->\n"
)

// checkTable compares the table with the one in the documentation, or writes it.
func checkTable(t *testing.T, table string) {
	t.Helper()
	table = versions(t) + "\n\n" + table + "\n"
	path := filepath.Join("..", "..", "docs", "kafka-compatibility.md")
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), tableBegin)
	old, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the lines that the table stands between", path)
	}
	switch {
	case *update:
		if err := os.WriteFile(path, []byte(before+tableBegin+table+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	case old != table:
		t.Errorf("the table in %s is not what was seen (-update writes it); seen:\n%s", path, table)
	}
}

// versions are those of the clients, from go.mod and from Debian.
func versions(t *testing.T) string {
	t.Helper()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(mod)); lines.Scan(); {
		if f := strings.Fields(strings.TrimPrefix(lines.Text(), "require")); len(f) >= 2 {
			required[f[0]] = strings.TrimPrefix(f[1], "v")
		}
	}
	module := func(path string) string {
		v, ok := required[path]
		if !ok {
			t.Fatalf("go.mod does not require %s", path)
		}
		return v
	}
	debian := func(name string) string {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", name).Output()
		if err != nil {
			t.Fatalf("dpkg-query %s: %v", name, err)
		}
		v, _, _ := strings.Cut(string(out), "-")
		return v
	}
	return strings.Join([]string{
		"| client | version |", "|---|---|",
		"| franz-go | " + module("github.com/twmb/franz-go") + " |",
		"| sarama | " + module("github.com/IBM/sarama") + " |",
		"| kafka-go | " + module("github.com/segmentio/kafka-go") + " |",
		"| librdkafka | the one in confluent-kafka-go " + module("github.com/confluentinc/confluent-kafka-go/v2") + " |",
		fmt.Sprintf("| confluent-python | Debian's %s with librdkafka %s |", debian("python3-confluent-kafka"), debian("librdkafka1")),
		"| python-kafka | Debian's " + debian("python3-kafka") + " |",
		fmt.Sprintf("| kcat | Debian's %s with librdkafka %s |", debian("kcat"), debian("librdkafka1")),
		fmt.Sprintf("| rsyslog | Debian's omkafka %s with librdkafka %s |", debian("rsyslog-kafka"), debian("librdkafka1")),
	}, "\n")
}
