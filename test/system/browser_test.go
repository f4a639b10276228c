//go:build system

package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browser is one tab of a headless Chromium.
type browser struct {
	t     *testing.T
	ctx   context.Context
	shots string // the directory that screenshots go to

	mu       sync.Mutex
	problems []string // what the console said that is no good
}

// startBrowser starts Debian's chromium-headless-shell with an empty profile.
// Screenshots stay in a directory that the test prints, or in RAFTSMAN_SCREENSHOTS.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	shots := os.Getenv("RAFTSMAN_SCREENSHOTS")
	if shots == "" {
		var err error
		if shots, err = os.MkdirTemp("", "raftsman-screenshots-"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("screenshots are in %s", shots)
	alloc, freed := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), chromedp.ExecPath("chromium-headless-shell"), chromedp.NoSandbox,
		chromedp.NoFirstRun, chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-gpu", true), chromedp.Flag("hide-scrollbars", false),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {})) // it knows fewer events than the browser has
	b := &browser{t: t, ctx: ctx, shots: shots}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("end the browser: %v", err)
		}
		cancel()
		freed()
	})
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.problem("exception: " + e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning || e.Type == runtime.APITypeAssert {
				var words []string
				for _, a := range e.Args {
					words = append(words, string(a.Value)+a.Description)
				}
				b.problem("console: " + strings.Join(words, " "))
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
				b.problem(fmt.Sprintf("log: %s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
			}
		case *page.EventJavascriptDialogOpening:
			b.problem("a dialog says " + e.Message)
		}
	})
	b.run(log.Enable(), runtime.Enable())
	return b
}

func (b *browser) problem(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

// clean fails the test if the console has said something since the last time, but
// for what is expected.
func (b *browser) clean(expected ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		if !slices.ContainsFunc(expected, func(e string) bool { return strings.Contains(p, e) }) {
			b.t.Errorf("the console: %s", p)
		}
	}
	b.problems = nil
}

func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	if b.ctx.Err() == nil && chromedp.FromContext(b.ctx).Browser == nil {
		cancel()
		ctx, cancel = b.ctx, func() {} // the first run starts the browser, which ends with its context
	}
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.t.Fatalf("the browser: %v", err)
	}
}

// eval returns what an expression is, as JSON makes it.
func eval[T any](b *browser, expression string) (v T) {
	b.t.Helper()
	var text string
	b.run(chromedp.Evaluate("JSON.stringify("+expression+") ?? 'null'", &text))
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		b.t.Fatalf("%s is %s: %v", expression, text, err)
	}
	return v
}

// until waits for an expression to become true, and says for how long.
func (b *browser) until(what, expression string, limit time.Duration) time.Duration {
	b.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	if err := chromedp.Run(ctx, chromedp.Poll("Boolean("+expression+")", nil, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(0))); err != nil {
		b.shoot("failed")
		b.t.Fatalf("waited %v for %s: %v; the page says\n%s", limit, what, err, eval[string](b, "document.body.innerText.slice(0, 3000)"))
	}
	return time.Since(began)
}

// open goes to a page and waits until it shows what the node says.
func (b *browser) open(url string) {
	b.t.Helper()
	b.run(chromedp.Navigate(url))
	b.until("the page to be live", live, time.Minute)
}

const live = `document.documentElement.dataset.link === "live" && document.querySelector("main h1")`

// size sets the window and whether it prefers dark or light.
func (b *browser) size(width, height int64, scheme string) {
	b.t.Helper()
	b.run(chromedp.EmulateViewport(width, height), chromedp.ActionFunc(func(ctx context.Context) error {
		return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}).Do(ctx)
	}))
}

// shoot keeps what the window shows.
func (b *browser) shoot(name string) {
	b.t.Helper()
	var png []byte
	b.run(chromedp.CaptureScreenshot(&png))
	if err := os.WriteFile(filepath.Join(b.shots, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// press types keys.
func (b *browser) press(keys string) {
	b.t.Helper()
	b.run(chromedp.ActionFunc(func(ctx context.Context) error {
		for _, r := range keys {
			// As a keyboard does it: a page that takes the key gets no text of it.
			down, text := *kb.Encode(r)[0], ""
			for _, e := range kb.Encode(r) {
				if e.Type == input.KeyChar {
					text = e.Text
				}
			}
			up := down
			down.Type, down.Text, down.UnmodifiedText, up.Type = input.KeyDown, text, text, input.KeyUp
			if err := errors.Join(down.Do(ctx), up.Do(ctx)); err != nil {
				return err
			}
		}
		return nil
	}))
}

const enter, tab, escape = kb.Enter, kb.Tab, kb.Escape
