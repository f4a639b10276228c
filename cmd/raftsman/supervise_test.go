package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
)

// patient is a node whose state a test chooses.
type patient struct {
	ready chan struct{}

	mu  sync.Mutex
	ill error
}

func (p *patient) falls(ill error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ill = ill
}

func (p *patient) Ready() <-chan struct{} { return p.ready }

func (p *patient) Alive() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ill
}
func (p *patient) Status() string { return "fine" }

// TestSupervisor goes through a node's life: what systemd is told at each step.
func TestSupervisor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		var reloads int
		var log bytes.Buffer
		p := &patient{ready: make(chan struct{})}
		hangup := make(chan os.Signal)
		s := supervisor{
			node: p, watchdog: 9 * time.Second, hangup: hangup, log: slog.New(slog.NewTextHandler(&log, nil)),
			tell: func(state string) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, state)
			},
			reload: func() error { reloads++; return nil },
		}
		stopping, ended, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() { s.run(stopping, ended); close(gone) }()
		expect := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			for i, state := range told {
				if at := strings.Index(state, "MONOTONIC_USEC="); at >= 0 {
					told[i] = state[:at]
				}
			}
			if !slices.Equal(told, want) {
				t.Errorf("%s systemd was told %q, want %q", when, told, want)
			}
			told = nil
		}
		time.Sleep(3 * time.Second) // fake time, as everywhere here
		expect("while it starts", "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=fine")
		hangup <- syscall.SIGHUP
		expect("at SIGHUP while it starts")
		close(p.ready)
		expect("when it serves", "READY=1\nSTATUS=fine")
		time.Sleep(6 * time.Second)
		expect("within six seconds", "WATCHDOG=1\nSTATUS=fine", "WATCHDOG=1\nSTATUS=fine")
		hangup <- syscall.SIGHUP
		expect("at SIGHUP", "RELOADING=1\n", "READY=1\nSTATUS=fine")
		if reloads != 2 {
			t.Errorf("%d reloads after two signals", reloads)
		}
		p.falls(errors.New("the loop has stopped"))
		time.Sleep(6 * time.Second)
		expect("when a loop has stopped")
		if !strings.Contains(log.String(), "the loop has stopped") {
			t.Errorf("the log does not say which loop: %s", log.String())
		}
		p.falls(nil)
		close(stopping)
		time.Sleep(3 * time.Second)
		expect("when it stops", "STOPPING=1\nSTATUS=handing over what this node leads", "WATCHDOG=1")
		close(ended)
		<-gone
	})
}

// TestReload: the level is taken over from the file, what needs a restart is
// named, wrong settings change nothing, and the command line goes before the file.
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "raftsman.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var flags nodeFlags
	var from origins
	cmd := &cobra.Command{Use: "serve", RunE: func(cmd *cobra.Command, _ []string) (err error) {
		from, err = flags.load(cmd)
		return err
	}}
	flags.bind(cmd.Flags())
	write("log-level: info\nrack: a\ndata-dir: /of/the/file\n")
	cmd.SetArgs([]string{"--config", file, "--data-dir", "/of/the/flag", "--kafka-listener", "in=127.0.0.1:1,advertise=b:1"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	h := flags.cfg.Logger.Handler().(logHandler)
	observe(&flags.cfg)
	h.Handler = slog.NewTextHandler(&log, nil)
	flags.cfg.Logger = slog.New(h)
	reload := flags.reloader(cmd, from)
	for _, step := range []struct {
		file   string
		level  slog.Level
		failed bool
		says   string
	}{
		{"log-level: debug\nrack: a\ndata-dir: /another\n", slog.LevelDebug, false, "log_level=debug"},
		{"log-level: debug\nrack: b\nsession-ttl: 20s\n", slog.LevelDebug, false, "settings=\"[rack session-ttl]\""},
		{"log-level: loud\nrack: a\n", slog.LevelDebug, true, ""},
		{"log-level: info\nrak: a\n", slog.LevelDebug, true, ""},
		{"rack: a\n", slog.LevelInfo, false, "log_level=info"},
	} {
		write(step.file)
		log.Reset()
		err := reload()
		if failed := err != nil; failed != step.failed {
			t.Errorf("%q: %v", step.file, err)
		}
		if got := flags.cfg.LogLevel.Level(); got != step.level {
			t.Errorf("%q: level %v, want %v", step.file, got, step.level)
		}
		if !strings.Contains(log.String(), step.says) {
			t.Errorf("%q: the log says %s", step.file, log.String())
		}
		if said := strings.Contains(log.String(), "restart"); said != strings.Contains(fmt.Sprint(step.says), "settings") {
			t.Errorf("%q: the log says %s", step.file, log.String())
		}
	}
}
