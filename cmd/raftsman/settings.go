package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"
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

// layer fills in what the command line left open. skip names flags that are no
// settings.
func layer(cmd *cobra.Command, file string, explicit bool, skip ...string) (origins, error) {
	values, err := readConfigFile(file, explicit)
	if err != nil {
		return nil, usageError{err}
	}
	from := make(origins)
	var errs []error
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || slices.Contains(skip, f.Name) {
			return
		}
		names = append(names, f.Name)
		value, source := "", ""
		env := "RAFTSMAN_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		inFile, isInFile := values[f.Name]
		delete(values, f.Name)
		switch {
		case f.Changed:
			from[f.Name] = "flag --" + f.Name
			return
		case os.Getenv(env) != "":
			value, source = os.Getenv(env), "environment "+env
		case isInFile:
			value, source = inFile, "file "+file
		case fallbacks[f.Name] != "" && os.Getenv(fallbacks[f.Name]) != "":
			value, source = os.Getenv(fallbacks[f.Name]), "environment "+fallbacks[f.Name]
		default:
			from[f.Name] = "default"
			return
		}
		if err := setFlag(f, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s %q: %w", source, f.Name, value, err))
		}
		from[f.Name] = source
	})
	for key := range values {
		msg := fmt.Sprintf("file %s: unknown key %q", file, key)
		if near := nearest(key, names); near != "" {
			msg += fmt.Sprintf("; did you mean %q?", near)
		}
		errs = append(errs, errors.New(msg))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, usageError{err}
	}
	return from, nil
}

// readConfigFile reads a flat YAML file. A missing one is an error only if it
// was asked for.
func readConfigFile(file string, explicit bool) (map[string]string, error) {
	values := make(map[string]string)
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !explicit {
		return values, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	var raw map[string]any
	if err := yaml.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("--config %s: %w", file, err)
	}
	for key, v := range raw {
		separator := ","
		if strings.HasSuffix(key, "listener") {
			separator = " "
		}
		text, err := flatten(v, separator)
		if err != nil {
			return nil, fmt.Errorf("--config %s: key %s: %w", file, key, err)
		}
		values[strings.ReplaceAll(key, "_", "-")] = text
	}
	return values, nil
}

// setFlag replaces a list as a whole; its elements are separated by spaces or
// line ends if it may hold commas (a listener does), else by commas.
func setFlag(f *pflag.Flag, value string) error {
	list, ok := f.Value.(pflag.SliceValue)
	if !ok || f.Value.Type() != "stringArray" {
		return f.Value.Set(value)
	}
	return list.Replace(strings.Fields(value))
}

func flatten(v any, separator string) (string, error) {
	switch v := v.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			part, err := flatten(e, separator)
			if err != nil {
				return "", err
			}
			parts[i] = part
		}
		return strings.Join(parts, separator), nil
	case map[string]any:
		return "", errors.New("must be a value or a list, not a map")
	case nil:
		return "", nil
	default:
		return fmt.Sprint(v), nil
	}
}
