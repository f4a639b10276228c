package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// s3Server is an S3 store in this process, with a bucket.
func s3Server(t testing.TB, bucket string) S3Options {
	t.Helper()
	store := s3mem.New()
	if err := store.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(store).Server())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "someone")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "something")
	return S3Options{Endpoint: server.URL, Region: "us-east-1"}
}

func TestPlaces(t *testing.T) {
	s3 := s3Server(t, "backups")
	for name, where := range map[string]string{
		"directory": filepath.Join(t.TempDir(), "not", "there"), "S3": "s3://backups/some/prefix", "S3 without prefix": "s3://backups",
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Open(where, s3)
			if err != nil {
				t.Fatal(err)
			}
			testPlace(t, p)
		})
	}
	p, err := Open("s3://nobodys/x", s3)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Put(t.Context(), "a", nil); err == nil || !strings.Contains(err.Error(), "nobodys") {
		t.Errorf("a bucket that is not there: %v", err)
	}
	for _, wrong := range []string{"", "s3://", "http://x/y", "gs://x"} {
		if _, err := Open(wrong, s3); err == nil {
			t.Errorf("%q was opened", wrong)
		}
	}
	if _, err := Open("s3://b", S3Options{Endpoint: "127.0.0.1:9000"}); err == nil || !strings.Contains(err.Error(), "http://") {
		t.Errorf("an endpoint without a scheme: %v", err)
	}
}

func testPlace(t *testing.T, p Place) {
	ctx := t.Context()
	list := func(prefix string) (all []string) {
		t.Helper()
		err := p.List(ctx, prefix, func(name string, bytes int64) error {
			all = append(all, fmt.Sprint(name, " ", bytes))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := list("data/"); len(got) > 0 {
		t.Fatalf("an empty place has %q", got)
	}
	big := []byte(strings.Repeat("0123456789abcdef", 1<<16))
	for name, data := range map[string][]byte{"data/x/0/b": big, "data/x/0/a": {9}, "data/x/01/c": {1}, "backups/y": {1, 2}} {
		for range 2 {
			if err := p.Put(ctx, name, data); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := p.Get(ctx, name, int64(len(data))); err != nil || !slices.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if err := p.Put(ctx, "backups/y", []byte{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	if got, want := list("data/x/0/"), []string{"data/x/0/a 1", "data/x/0/b 1048576"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := list("backups/"), []string{"backups/y 3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := p.Get(ctx, "data/x/0/b", 1<<20-1); !errors.Is(err, errTooLong) {
		t.Errorf("an object that is too long: %v", err)
	}
	if _, err := p.Get(ctx, "data/x/0/none", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an object that is not there: %v", err)
	}
	stop := errors.New("enough")
	if err := p.List(ctx, "data/", func(string, int64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a listing that was stopped: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := p.List(ended, "data/", func(string, int64) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a listing that was cancelled: %v", err)
	}
}

// TestHalfWritten: what a crash leaves of a Put is no object.
func TestHalfWritten(t *testing.T) {
	root := t.TempDir()
	p, err := Open(root, S3Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Put(t.Context(), "data/a", []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "data", "b.tmp"), []byte{1}, 0o600); err != nil {
		t.Fatal(err)
	}
	err = p.List(t.Context(), "data/", func(name string, _ int64) error {
		if name != "data/a" {
			t.Errorf("listed %s", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
