package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every configuration that is known is in the documentation, with what it does
// here.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "kafka-compatibility.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "\n## Configurations\n")
	part, _, _ = strings.Cut(part, "\n## ")
	lines := strings.Split(part, "\n")
	line := func(name string) string {
		for _, l := range lines {
			if strings.HasPrefix(l, "|") && strings.Contains(l, "`"+name+"`") {
				return l
			}
		}
		return ""
	}
	for _, name := range TopicNames() {
		d, _ := Topic(name)
		if l := line(name); l == "" || (d.Inert != "") != strings.Contains(l, "without effect") {
			t.Errorf("%s: %q", name, l)
		}
	}
	derived := map[string]bool{}
	for _, list := range synonyms {
		for _, s := range list {
			derived[s.Name] = true
		}
	}
	for _, name := range BrokerNames() {
		d, _ := Broker(name)
		if l := line(name); !derived[name] && (l == "" || (d.Inert != "") != strings.Contains(l, "without effect") || d.ReadOnly != strings.Contains(l, "read only")) {
			t.Errorf("%s: %q", name, l)
		}
	}
}
