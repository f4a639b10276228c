package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

const (
	statusEvery = 5 * time.Second
	// moreTime is what a node that is still starting asks systemd for: it may wait
	// for etcd, or read a long log.
	moreTime = time.Minute
)

// supervised is what systemd is told about.
type supervised interface {
	Ready() <-chan struct{}
	Alive() error
	Status() string
}

// supervisor tells systemd how a node is, if systemd has started this process
// (Type=notify), and reads the settings again at SIGHUP.
type supervisor struct {
	node     supervised
	watchdog time.Duration // systemd's patience; 0: it has no watchdog
	tell     func(state string)
	reload   func() error
	hangup   <-chan os.Signal
	log      *slog.Logger
}

// supervise runs a supervisor until stop is called, which waits for it.
func supervise(ctx context.Context, n supervised, reload func() error, log *slog.Logger) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	s := supervisor{node: n, reload: reload, hangup: hangup, log: log, tell: func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Warn("systemd can't be told of this node", "err", err)
		}
	}}
	var err error
	if s.watchdog, err = daemon.SdWatchdogEnabled(false); err != nil {
		log.Warn("systemd's watchdog gets no signs of life", "err", err)
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.run(ctx.Done(), ended) })
	return func() {
		signal.Stop(hangup)
		close(ended)
		wg.Wait()
	}
}

// run tells what there is to tell until ended is closed. The watchdog gets a sign of
// life as long as the node's loops turn.
func (s *supervisor) run(stopping, ended <-chan struct{}) {
	every := statusEvery
	if s.watchdog > 0 {
		every = min(every, s.watchdog/3)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	ready, serving := s.node.Ready(), false
	last := time.Now()
	for {
		select {
		case <-ended:
			return
		case <-stopping:
			stopping, ready = nil, nil
			s.tell(daemon.SdNotifyStopping + "\nSTATUS=handing over what this node leads")
			continue
		case <-ready:
			ready, serving = nil, true
			s.tell(daemon.SdNotifyReady + "\nSTATUS=" + s.node.Status())
		case <-s.hangup:
			s.reloadNow(serving && stopping != nil)
		case <-tick.C:
			s.sign(serving, stopping == nil, time.Since(last) > 2*every)
			last = time.Now()
		}
	}
}

// sign gives systemd a sign of life, if there is life. Right after the whole process
// was paused nothing can be said about its loops.
func (s *supervisor) sign(serving, stopping, paused bool) {
	if err := s.node.Alive(); err != nil && !paused {
		s.log.Error("this node has to be started again; systemd does so if the unit has a watchdog", "err", err)
		return
	}
	state := daemon.SdNotifyWatchdog
	if !serving && !stopping {
		state = fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", moreTime.Microseconds())
	}
	if !stopping {
		state += "\nSTATUS=" + s.node.Status()
	}
	s.tell(state)
}

// reloadNow reads the settings again. systemd waits for the end of it.
func (s *supervisor) reloadNow(serving bool) {
	if serving {
		s.tell(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, monotonic()))
	}
	if err := s.reload(); err != nil {
		s.log.Error("the settings could not be read again: those of before stay", "err", err)
	}
	if serving {
		s.tell(daemon.SdNotifyReady + "\nSTATUS=" + s.node.Status())
	}
}

// monotonic is the time that systemd compares a reload's begin with.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano() / 1000
}
