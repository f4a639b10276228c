package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// setting is one line of config print.
type setting struct {
	Name   string `json:"name"`
	Value  any    `json:"value"` // a string or a list of them
	Origin string `json:"origin"`
}

func newConfig() *cobra.Command {
	return group("config", "See the configuration", newConfigPrint())
}

func newConfigPrint() *cobra.Command {
	var (
		flags  nodeFlags
		format outputFormat
	)
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print a node's settings and where each one comes from",
		Long: `Prints the settings that raftsman serve would have with the same flags,
environment and file. Passwords are not printed.`,
		Example: `  raftsman config print
  RAFTSMAN_RACK=a raftsman config print --config ./raftsman.yaml -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := flags.load(cmd)
			if err != nil {
				return err
			}
			settings := settingsOf(cmd.Flags(), from)
			return render(cmd, format, settings, func(w io.Writer) {
				heading(w, "SETTING", "VALUE", "FROM")
				for _, s := range settings {
					text, ok := s.Value.(string)
					if !ok {
						text = strings.Join(s.Value.([]string), ",")
					}
					cells(w, s.Name, orDash(text), s.Origin)
				}
			})
		},
	}
	flags.bind(cmd.Flags())
	format.bind(cmd)
	return cmd
}

// settingsOf lists the flags that have an origin, in order of name.
func settingsOf(f *pflag.FlagSet, from origins) []setting {
	var settings []setting
	f.VisitAll(func(f *pflag.Flag) {
		origin, ok := from[f.Name]
		if !ok {
			return
		}
		s := setting{Name: f.Name, Value: masked(f.Name, f.Value.String()), Origin: origin}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values := []string{}
			for _, v := range list.GetSlice() {
				values = append(values, masked(f.Name, v))
			}
			s.Value = values
		}
		settings = append(settings, s)
	})
	return settings
}

// masked hides the password in a value, if there is one.
func masked(name, value string) string {
	if name == "etcd-user" {
		if user, _, ok := strings.Cut(value, ":"); ok {
			return user + ":***"
		}
		return value
	}
	scheme, rest, ok := strings.Cut(value, "://")
	if !ok {
		return value
	}
	at := strings.LastIndex(rest, "@")
	if at < 0 {
		return value
	}
	user, _, ok := strings.Cut(rest[:at], ":")
	if !ok {
		return value
	}
	return scheme + "://" + user + ":***" + rest[at:]
}
