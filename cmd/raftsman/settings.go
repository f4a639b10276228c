package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/raftsman/raftsman/pkg/node"
)

// A setting comes from its flag, else from RAFTSMAN_<NAME> in the environment,
// else from the configuration file, else from a fallback in the environment that
// operators have set already for etcdctl, else it has its default. In the file a
// key is the flag's name; dashes and underscores are the same.

const defaultConfigFile = "/etc/raftsman/raftsman.yaml"

// fallbacks are etcdctl's own variables.
var fallbacks = map[string]string{
	"etcd-endpoints":     "ETCDCTL_ENDPOINTS",
	"etcd-cacert":        "ETCDCTL_CACERT",
	"etcd-cert":          "ETCDCTL_CERT",
	"etcd-key":           "ETCDCTL_KEY",
	"etcd-user":          "ETCDCTL_USER",
	"etcd-discovery-srv": "ETCDCTL_DISCOVERY_SRV",
}

// origins says where each setting came from.
type origins map[string]string

// environment is the variable of a setting.
func environment(name string) string {
	return "RAFTSMAN_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// layer fills in what the command line left open. skip names flags that are no
// settings. All that is wrong is reported at once.
func layer(cmd *cobra.Command, file string, explicit bool, skip ...string) (origins, error) {
	values, err := readConfigFile(file, explicit)
	errs := []error{err}
	from := make(origins)
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || slices.Contains(skip, f.Name) {
			return
		}
		names = append(names, f.Name)
		env, borrowed := environment(f.Name), fallbacks[f.Name]
		inFile, isInFile := values[f.Name]
		delete(values, f.Name)
		var err error
		switch {
		case f.Changed:
			from[f.Name] = "flag --" + f.Name
		case os.Getenv(env) != "":
			from[f.Name] = "environment " + env
			err = setFlag(f, os.Getenv(env))
		case isInFile:
			from[f.Name] = fmt.Sprintf("file %s line %d", file, inFile.line)
			err = setFromFile(f, inFile)
		case borrowed != "" && os.Getenv(borrowed) != "":
			from[f.Name] = "environment " + borrowed
			err = setFlag(f, os.Getenv(borrowed))
		default:
			from[f.Name] = "default"
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", from[f.Name], f.Name, err))
		}
	})
	errs = append(errs, unknownKeys(file, values, names)...)
	errs = append(errs, unknownVariables(os.Environ(), names)...)
	if err := errors.Join(errs...); err != nil {
		return nil, usageError{err}
	}
	return from, nil
}

// unknownKeys are what is left of the file, in the order of its lines.
func unknownKeys(file string, left map[string]fileValue, names []string) (errs []error) {
	keys := make([]string, 0, len(left))
	for key := range left {
		keys = append(keys, key)
	}
	sort.Slice(keys, func(i, j int) bool { return left[keys[i]].line < left[keys[j]].line })
	for _, key := range keys {
		msg := fmt.Sprintf("file %s line %d: unknown key %q", file, left[key].line, left[key].key)
		if near := nearest(key, names); near != "" {
			msg += fmt.Sprintf("; did you mean %q?", near)
		} else {
			msg += "; raftsman config print lists all keys"
		}
		errs = append(errs, errors.New(msg))
	}
	return errs
}

// kubernetes sets such variables for each service; one may be named raftsman.
var kubernetes = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)$`)

// unknownVariables finds misspelt variables. Others, that are like none of the
// settings, may be another program's.
func unknownVariables(environ, names []string) (errs []error) {
	for _, kv := range environ {
		variable, value, _ := strings.Cut(kv, "=")
		rest, ours := strings.CutPrefix(variable, "RAFTSMAN_")
		name := strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
		if !ours || value == "" || slices.Contains(names, name) || slices.Contains(otherVariables, variable) || kubernetes.MatchString(variable) {
			continue
		}
		if near := nearest(name, names); near != "" {
			errs = append(errs, fmt.Errorf("environment %s: unknown setting; did you mean %s?", variable, environment(near)))
		}
	}
	return errs
}

// otherVariables are read elsewhere.
var otherVariables = []string{"RAFTSMAN_CONFIG", "RAFTSMAN_BROKERS", "RAFTSMAN_HTTP", "RAFTSMAN_IMAGE"}

// setFlag replaces a list as a whole; its elements are separated by spaces or
// line ends if it may hold commas (a listener does), else by commas.
func setFlag(f *pflag.Flag, value string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok && f.Value.Type() == "stringArray" {
		return list.Replace(strings.Fields(value))
	}
	if err := f.Value.Set(value); err != nil {
		return wrongValue(f, value)
	}
	return nil
}

func setFromFile(f *pflag.Flag, v fileValue) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		values := v.values
		if !v.list && f.Value.Type() == "stringSlice" {
			values = strings.Split(values[0], ",")
		}
		return list.Replace(values)
	}
	if v.list {
		return errors.New("it must be one value, not a list")
	}
	return setFlag(f, v.values[0])
}

// wrongValue says what a flag takes.
func wrongValue(f *pflag.Flag, value string) error {
	want := map[string]string{
		"bool":     "true or false",
		"int":      "a whole number",
		"int16":    "a whole number from -32768 to 32767",
		"int32":    "a whole number from -2147483648 to 2147483647",
		"int64":    "a whole number",
		"duration": "a number with its unit, such as 500ms, 10s or 2m",
	}[f.Value.Type()]
	if want == "" {
		want = "a " + f.Value.Type()
	}
	return fmt.Errorf("%q: it must be %s", value, want)
}

// explain says of each wrong setting where it came from.
func explain(err error, from origins) error {
	var invalid *node.ConfigError
	if !errors.As(err, &invalid) {
		return err
	}
	var errs []error
	for _, p := range invalid.Problems {
		var problem *node.Problem
		if errors.As(p, &problem) {
			name, _, _ := strings.Cut(strings.TrimPrefix(problem.Flag, "--"), " ")
			origin := from[name]
			if origin == "default" && problem.Value == "" {
				origin = "not set"
			}
			if origin != "" && origin != "flag --"+name {
				p = fmt.Errorf("%s %q (%s): %s", problem.Flag, problem.Value, origin, problem.Remedy)
			}
		}
		errs = append(errs, p)
	}
	return usageError{errors.Join(errs...)}
}
