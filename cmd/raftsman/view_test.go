package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/raftsman/raftsman/internal/gateway"
)

// watchedAPI answers GET /ops with a state after the other, and ends the command
// after the last. A nil state is a failure.
func watchedAPI(t *testing.T, states ...[]gateway.Operation) (ctx context.Context, url string) {
	t.Helper()
	clearEnv(t)
	ctx, interrupt := context.WithCancel(t.Context())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(states) == 0 {
			interrupt()
			return
		}
		if states[0] == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(states[0])
		states = states[1:]
	}))
	t.Cleanup(srv.Close)
	return ctx, srv.URL
}

func watchedStates() [][]gateway.Operation {
	first := gateway.Operation{ID: "drain-2", Op: step("running", 1, "")}
	more := gateway.Operation{ID: "drain-2", Op: step("running", 3, "")}
	other := gateway.Operation{ID: "move-a-much-longer-name", Op: step("pending", -1, "")}
	return [][]gateway.Operation{{first}, {first}, nil, {more, other}, {other}, {}}
}

func TestWatchPrintsALinePerChange(t *testing.T) {
	ctx, url := watchedAPI(t, watchedStates()...)
	out, errs, code := typed(ctx, "ops list --watch --interval 100ms --http "+url)
	if code != 0 || strings.Count(errs, "tried again") != 1 {
		t.Errorf("exit code %d, errors %q", code, errs)
	}
	got := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  `).ReplaceAllString(out, "")
	got = regexp.MustCompile(`  +`).ReplaceAllString(got, "  ")
	const want = `ID  WHAT  STATE  DONE  LEFT  CREATED  REASON
drain-2  drain of node 2  running  25%  30s  2026-11-21T12:00:00Z  -
drain-2  drain of node 2  running  75%  10s  2026-11-21T12:00:00Z  -
move-a-much-longer-name  drain of node 2  pending  0%  -  2026-11-21T12:00:00Z  -
gone: drain-2  drain of node 2  running  75%  10s  2026-11-21T12:00:00Z  -
gone: move-a-much-longer-name  drain of node 2  pending  0%  -  2026-11-21T12:00:00Z  -
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWatchPrintsADocumentPerChange(t *testing.T) {
	ctx, url := watchedAPI(t, watchedStates()...)
	out, _, code := typed(ctx, "ops list --watch --interval 100ms -o json --http "+url)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, line := range lines {
		var ops []gateway.Operation
		if err := json.Unmarshal([]byte(line), &ops); err != nil || len(ops) != []int{1, 2, 1, 0}[i] {
			t.Errorf("line %d: %v, %s", i, err, line)
		}
	}
	if code != 0 || len(lines) != 4 || lines[3] != "[]" {
		t.Errorf("exit code %d, %d lines", code, len(lines))
	}
	ctx, url = watchedAPI(t, watchedStates()...)
	if out, _, _ := typed(ctx, "ops list --watch --interval 100ms -o yaml --http "+url); strings.Count(out, "---\n") != 4 {
		t.Errorf("got %s", out)
	}
	if _, _, code := typed(t.Context(), "ops list --watch --interval 1ms --http "+url); code != exitUsage {
		t.Errorf("--interval 1ms: exit code %d", code)
	}
}

// terminal opens a pseudo-terminal: what is written to tty is read from the other
// end.
func terminal(t *testing.T, columns, lines uint16) (tty, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}); err != nil {
		t.Fatal(err)
	}
	return tty, screen
}

// TestWatchOnATerminal draws one state over the other, within the terminal.
func TestWatchOnATerminal(t *testing.T) {
	const columns, lines = 60, 10
	for _, colour := range []bool{true, false} {
		tty, screen := terminal(t, columns, lines)
		ctx, url := watchedAPI(t, watchedStates()...)
		t.Setenv("NO_COLOR", map[bool]string{true: "", false: "1"}[colour])
		t.Setenv("TERM", "xterm")
		drawn := make(chan string, 1)
		go func() {
			var all strings.Builder
			for in := bufio.NewReader(screen); ; {
				r, _, err := in.ReadRune()
				if err != nil || r == 0x04 { // what this test writes at the end
					drawn <- all.String()
					return
				}
				all.WriteRune(r)
			}
		}()
		root := newRoot()
		root.SetOut(tty)
		root.SetArgs(strings.Fields("ops list --watch --interval 100ms --http " + url))
		if err := root.ExecuteContext(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := tty.WriteString("\x04"); err != nil {
			t.Fatal(err)
		}
		frames := strings.Split(<-drawn, "\x1b[H")
		if len(frames) < 6 || !strings.HasPrefix(frames[1], "\x1b[2J") || !strings.Contains(frames[3], "not reached now") {
			t.Fatalf("%d frames: %q", len(frames), frames)
		}
		for _, f := range frames[1:] {
			if strings.Contains(f, "\x1b[1m") != colour && strings.Contains(f, "WHAT") {
				t.Errorf("colours are %v in %q", colour, f)
			}
			text := regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]").ReplaceAllString(f, "")
			rows := strings.Split(strings.ReplaceAll(text, "\r", ""), "\n")
			if len(rows) > lines {
				t.Errorf("%d lines on a terminal of %d:\n%s", len(rows), lines, text)
			}
			for _, row := range rows[1:] {
				if visible(row) > columns {
					t.Errorf("%d columns on a terminal of %d: %s", visible(row), columns, row)
				}
			}
		}
	}
}
