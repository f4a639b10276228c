package group

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

var update = flag.Bool("update", false, "write what the scripts in testdata lead to")

// TestScripts runs the scripts in testdata. A line is an event; the indented
// lines below it are what it must lead to. Requests are
//
//	<client> <request> [key=value ...]
//
// and the rest is read from (*script).run. A client's answer names the client.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(src))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := append(strings.Split(string(src), "\n"), "the end")
			for i, line := range append(strings.Split(got, "\n"), "the end") {
				if line != want[i] {
					t.Fatalf("%s:%d:\n got %q\nwant %q", file, i+1, line, want[i])
				}
			}
		})
	}
}

// script is a machine that a script drives.
type script struct {
	t   *testing.T
	m   *Machine
	cfg Config
	now time.Time
	out strings.Builder

	ids     int
	log     []Record          // what was stored
	writes  map[string]*Write // not stored yet
	written int
	auto    bool // writes are stored at once
	waiting map[string]int
}

var epoch = time.UnixMilli(1_700_000_000_000).UTC()

func play(t *testing.T, src string) string {
	s := &script{t: t, now: epoch, writes: map[string]*Write{}, waiting: map[string]int{}, auto: true}
	s.cfg = Config{NewMemberID: func(prefix string) string { s.ids++; return fmt.Sprintf("%s-%d", prefix, s.ids) }}
	for line := range strings.SplitSeq(strings.TrimRight(src, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		s.out.WriteString(line + "\n")
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if s.m == nil && words[0] != "config" {
			s.m = New(s.cfg)
			s.effects(s.m.Loaded(s.now))
		}
		s.run(words, options(words))
	}
	for who, n := range s.waiting {
		if n < 0 || n > 0 && s.m.resigned {
			t.Errorf("%s is owed %d answers at the end", who, n)
		}
	}
	return s.out.String()
}

// options are the words of the form key=value.
func options(words []string) map[string]string {
	opts := map[string]string{}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			opts[k] = v
		}
	}
	return opts
}

func (s *script) run(words []string, opts map[string]string) {
	switch words[0] {
	case "config": // delay=3s size=10 metadata=4096 retention=168h check=10m min=6s max=30m
		s.cfg.InitialRebalanceDelay = s.duration(opts["delay"])
		s.cfg.OffsetsRetention, s.cfg.OffsetsRetentionCheck = s.duration(opts["retention"]), s.duration(opts["check"])
		s.cfg.MaxSize, s.cfg.MaxOffsetMetadata = int(s.number(opts["size"], 0)), int(s.number(opts["metadata"], 0))
		s.cfg.MinSessionTimeout, s.cfg.MaxSessionTimeout = s.duration(opts["min"]), s.duration(opts["max"])
		if s.m != nil {
			s.effects(s.m.Configure(s.now, s.cfg))
		}
	case "stats":
		s.printf("%+v", s.m.Stats())
	case "manual": // from now on writes are stored by `stored`
		s.auto = false
	case "stored": // stored w1 [error]
		w := s.writes[words[1]]
		if w == nil {
			s.t.Fatalf("no write %s", words[1])
		}
		delete(s.writes, words[1])
		var err error
		if len(words) > 2 {
			err = kerrOf(words[2])
		} else {
			s.log = append(s.log, w.Records...)
		}
		s.effects(s.m.Stored(s.now, w, err))
	case "wait": // time passes, and what is due happens
		until := s.now.Add(s.duration(words[1]))
		for next := s.m.Next(); !next.IsZero() && !next.After(until); next = s.m.Next() {
			s.now = next
			s.effects(s.m.Tick(s.now))
		}
		s.now = until
	case "jump": // time passes unseen; then what is due happens
		s.now = s.now.Add(s.duration(words[1]))
		s.effects(s.m.Tick(s.now))
	case "resign":
		s.effects(s.m.Resign(s.now))
	case "recover": // another machine reads the log
		s.m = New(s.cfg)
		for _, r := range s.log {
			if err := s.m.Load(r, s.now); err != nil {
				s.printf("%v", err)
			}
		}
		clear(s.writes)
		clear(s.waiting)
		s.effects(s.m.Loaded(s.now))
	case "inherit": // inherit g=c1-1:3s,c2-2:0s: what the last machine knew
		var all []Sessions
		for name, list := range opts {
			one := Sessions{Group: name}
			for member := range strings.SplitSeq(list, ",") {
				id, left, _ := strings.Cut(member, ":")
				one.Members = append(one.Members, Session{id, s.duration(left)})
			}
			all = append(all, one)
		}
		s.effects(s.m.Inherit(s.now, all))
	case "sessions":
		for _, one := range s.m.Sessions(s.now) {
			s.printf("%+v", one)
		}
	case "remove-topic":
		s.effects(s.m.RemoveTopic(s.now, words[1]))
	default:
		req := s.request(words[1], opts)
		s.waiting[words[0]]++
		s.effects(s.m.Handle(s.now, words[0], Client{ID: words[0], Host: "/" + words[0]}, req))
	}
}

func (s *script) printf(format string, args ...any) {
	fmt.Fprintf(&s.out, "  %6s  ", s.now.Sub(epoch))
	fmt.Fprintf(&s.out, format+"\n", args...)
}

func (s *script) effects(fx Effects) {
	for _, r := range fx.Replies {
		s.waiting[r.Ref.(string)]--
		s.printf("%s: %s", r.Ref, responseText(r.Resp))
	}
	for _, took := range fx.Rebalanced {
		s.printf("the rebalance took %s", took)
	}
	for _, w := range fx.Writes {
		s.written++
		name := fmt.Sprintf("w%d", s.written)
		for _, r := range w.Records {
			s.printf("%s %s", name, recordText(r))
		}
		s.writes[name] = w
		if s.auto {
			delete(s.writes, name)
			s.log = append(s.log, w.Records...)
			s.effects(s.m.Stored(s.now, w, nil))
		}
	}
}

func (s *script) duration(v string) time.Duration {
	if v == "" {
		return 0
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *script) number(v string, otherwise int64) int64 {
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func kerrOf(name string) error {
	if name == "error" {
		return errors.New("the disk is on fire")
	}
	for code := int16(-1); code < 200; code++ {
		if e := kerr.TypedErrorForCode(code); e != nil && e.Message == name {
			return e
		}
	}
	panic("no such error: " + name)
}
