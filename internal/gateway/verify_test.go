package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestVerify: events come as lines, an error as the last of them, and only JSON
// is taken.
func TestVerify(t *testing.T) {
	var got string
	var result error
	s := start(t, Options{Verify: func(_ context.Context, options []byte, emit func(any) error) error {
		got = string(options)
		if err := emit(map[string]int{"n": 1}); err != nil {
			return err
		}
		return errors.Join(emit(map[string]int{"n": 2}), result)
	}})
	post := func(kind, body string) (int, string) {
		t.Helper()
		resp, err := http.Post(s+"/cluster/verify", kind, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if code, body := post("application/json", `{"x":1}`); code != http.StatusOK || body != "{\"n\":1}\n{\"n\":2}\n" || got != `{"x":1}` {
		t.Errorf("%d %q, options %q", code, body, got)
	}
	result = errors.New("no")
	if code, body := post("application/json; charset=utf-8", `{}`); code != http.StatusOK || !strings.HasSuffix(body, "\n{\"error\":\"no\"}\n") {
		t.Errorf("%d %q", code, body)
	}
	got = "not called"
	if code, _ := post("text/plain", `{}`); code != http.StatusUnsupportedMediaType || got != "not called" {
		t.Errorf("another type of content: %d, options %q", code, got)
	}
	if code, _ := post("application/json", strings.Repeat(" ", maxVerifyOptions+1)); code != http.StatusRequestEntityTooLarge || got != "not called" {
		t.Errorf("options that are too long: %d", code)
	}
}
