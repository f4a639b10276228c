package main

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// reloader returns what a running node does when it is told to read its settings
// again: the log level is taken over, and of all else that has changed in the file it
// says that it waits for a restart. Settings that are wrong change nothing. The
// client certificate for etcd is read at each connection anyway.
func (n *nodeFlags) reloader(cmd *cobra.Command, from origins) func() error {
	began := settingsOf(cmd.Flags(), from)
	log, level := n.cfg.Logger, n.cfg.LogLevel
	return func() error {
		var fresh nodeFlags
		again := &cobra.Command{Use: cmd.Use}
		fresh.bind(again.Flags())
		if err := copyFlags(cmd.Flags(), again.Flags()); err != nil {
			return err
		}
		from, err := fresh.load(again)
		if err != nil {
			return err
		}
		var l slog.Level
		if err := l.UnmarshalText([]byte(fresh.logLevel)); err != nil {
			return fmt.Errorf("--log-level %q: %w", fresh.logLevel, err)
		}
		level.Set(l)
		log.Info("read the settings again", "log_level", fresh.logLevel)
		if waiting := changed(began, settingsOf(again.Flags(), from)); len(waiting) > 0 {
			log.Warn("settings have changed that a restart is needed for", "settings", waiting)
		}
		return nil
	}
}

// copyFlags sets in to what was given on the command line.
func copyFlags(from, to *pflag.FlagSet) (err error) {
	from.Visit(func(f *pflag.Flag) {
		if err != nil {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			g := to.Lookup(f.Name)
			g.Changed = true
			err = g.Value.(pflag.SliceValue).Replace(list.GetSlice())
			return
		}
		err = to.Set(f.Name, f.Value.String())
	})
	return err
}

// changed names the settings whose value is another one, but for those that take
// effect at once. Where both are defaults a value was only filled in.
func changed(before, after []setting) (names []string) {
	for i, b := range before {
		a := after[i]
		same := fmt.Sprint(a.Value) == fmt.Sprint(b.Value)
		if a.Name != "log-level" && !same && !(a.Origin == "default" && b.Origin == "default") {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	return names
}
