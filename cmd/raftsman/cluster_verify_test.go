package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestClusterVerifyExitCodes: what a node says decides the exit code.
func TestClusterVerifyExitCodes(t *testing.T) {
	const (
		damage   = `{"difference":{"topic":"a","kind":"damage","repaired":false,"copies":[{"node":1,"state":"damaged"}]}}`
		repaired = `{"difference":{"topic":"a","kind":"damage","repaired":true,"copies":[{"node":1,"state":"damaged","repair":"mended"}]}}`
		gap      = `{"incomplete":{"topic":"a","node":2,"reason":"away"}}`
		done     = `{"done":{"partitions":1,"of":1}}`
	)
	for _, c := range []struct {
		name  string
		lines []string
		code  int
		says  string
	}{
		{"clean", []string{`{"progress":{"partitions":0,"of":1}}`, done}, 0, ""},
		{"repaired", []string{repaired, done}, 0, ""},
		{"damage", []string{damage, repaired, done}, 3, "1 difference remains"},
		{"gap", []string{gap, done}, 4, "1 gap"},
		{"both", []string{gap, damage, damage, done}, 3, "2 differences remain"},
		{"repaired, with a gap", []string{repaired, gap, done}, 4, "1 gap"},
		{"error", []string{damage, `{"error":"topic \"a\" does not exist"}`}, 1, "does not exist"},
		{"cut off", []string{damage}, 1, "the node ended"},
		{"many", append(slicesOf(damage, maxDifferences+5), done), 3, "1005 differences remain"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.URL.Path != "/cluster/verify" || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s of type %q", r.Method, r.URL.Path, r.Header.Get("Content-Type"))
			}
			w.Write([]byte(strings.Join(c.lines, "\n") + "\n")) // an error means that the client has gone
		}))
		root := newRoot()
		root.SetArgs([]string{"cluster", "verify", "--http", s.Listener.Addr().String(), "-o", "json"})
		var out, progress strings.Builder
		root.SetOut(&out)
		root.SetErr(&progress)
		err := root.ExecuteContext(t.Context())
		s.Close()
		code := 0
		var own exitError
		switch {
		case errors.As(err, &own):
			code = own.code
		case err != nil:
			code = 1
		}
		if code != c.code || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: exit code %d and %v, want %d and %q", c.name, code, err, c.code, c.says)
		}
		if listed := strings.Count(out.String(), `"kind"`); listed > maxDifferences {
			t.Errorf("%s: %d differences are listed", c.name, listed)
		}
	}
}

func slicesOf(line string, n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = line
	}
	return lines
}
