package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/config"
)

func newTopicAlter() *cobra.Command {
	var (
		kafka      kafkaFlags
		set        []string
		unset      []string
		partitions int32
		check      bool
		format     outputFormat
	)
	cmd := &cobra.Command{
		Use:   "alter NAME",
		Short: "Change a topic's settings, or give it more partitions",
		Long: `Changes what is named and leaves the rest. Settings take effect at once, on
running partitions too. One that is deleted falls back to what was set for the
nodes, or to its default.`,
		Example: `  raftsman topic alter orders --config retention.ms=86400000 --delete-config max.message.bytes
  raftsman topic alter orders --partitions 24`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			changes, err := topicChanges(set, unset)
			if err == nil && len(changes) == 0 && !cmd.Flags().Changed("partitions") {
				err = errors.New("nothing to alter: give --config, --delete-config or --partitions")
			}
			if err == nil && cmd.Flags().Changed("partitions") && partitions < 1 {
				err = fmt.Errorf("--partitions %d: use the new number, 1 or more", partitions)
			}
			if err != nil {
				return usageError{err}
			}
			return kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				err := alterTopic(ctx, adm, args[0], changes, partitions, check)
				if errors.Is(err, kerr.UnknownTopicOrPartition) {
					return unknownTopic(ctx, adm, args[0])
				}
				if err != nil {
					return fmt.Errorf("alter topic %q: %w%s", args[0], err, nearSetting(changes))
				}
				return render(cmd, format, topicAltered{args[0], !check}, func(w io.Writer) {
					if check {
						fmt.Fprintf(w, "%s can be altered so\n", args[0])
					} else {
						fmt.Fprintf(w, "altered %s\n", args[0])
					}
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&set, "config", nil, "a setting of the topic, NAME=VALUE; may be repeated")
	f.StringArrayVar(&unset, "delete-config", nil, "a setting to go back to its default, NAME; may be repeated")
	f.Int32Var(&partitions, "partitions", 0, "the new number of partitions; it can't shrink, and keys may go to other partitions from then on")
	f.BoolVar(&check, "validate-only", false, "change nothing, say whether it could be")
	completeFlag(cmd, "config", completeConfigs("="))
	completeFlag(cmd, "delete-config", completeConfigs(""))
	cmd.ValidArgsFunction = kafka.completeTopics
	kafka.bind(cmd)
	format.bind(cmd)
	return cmd
}

// nearSetting says what may be meant by a setting that is not known here.
func nearSetting(changes []kadm.AlterConfig) string {
	names := config.TopicNames()
	for _, c := range changes {
		if near := nearestName(c.Name, names); near != "" && !slices.Contains(names, c.Name) {
			return fmt.Sprintf("; did you mean %s?", near)
		}
	}
	return ""
}

// topicAltered is what topic alter shows.
type topicAltered struct {
	Name    string `json:"name"`
	Altered bool   `json:"altered"` // false: it was only checked
}

// topicChanges reads what is to be set and deleted.
func topicChanges(set, unset []string) ([]kadm.AlterConfig, error) {
	values, err := parseTopicConfig(set)
	if err != nil {
		return nil, err
	}
	var changes []kadm.AlterConfig
	for _, name := range slices.Sorted(maps.Keys(values)) {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: values[name]})
	}
	for _, name := range unset {
		if _, both := values[name]; both || name == "" || strings.Contains(name, "=") {
			return nil, fmt.Errorf("--delete-config %q: it must be the NAME of a setting that --config does not set", name)
		}
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
	}
	return changes, nil
}

func alterTopic(ctx context.Context, adm *kadm.Client, topic string, changes []kadm.AlterConfig, partitions int32, check bool) error {
	if len(changes) > 0 {
		alter := adm.AlterTopicConfigs
		if check {
			alter = adm.ValidateAlterTopicConfigs
		}
		rs, err := alter(ctx, changes, topic)
		if err == nil && len(rs) != 1 {
			err = errors.New("no answer")
		}
		if err == nil {
			err = explained(rs[0].Err, rs[0].ErrMessage)
		}
		if err != nil {
			return err
		}
	}
	if partitions < 1 {
		return nil
	}
	grow := adm.UpdatePartitions
	if check {
		grow = adm.ValidateUpdatePartitions
	}
	rs, err := grow(ctx, int(partitions), topic)
	if err != nil {
		return err
	}
	return explained(rs[topic].Err, rs[topic].ErrMessage)
}

// completeConfigs offers the names of topics' settings.
func completeConfigs(suffix string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		directive := cobra.ShellCompDirectiveNoFileComp
		if suffix != "" {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		var names []string
		for _, name := range config.TopicNames() {
			d, _ := config.Topic(name)
			names = append(names, name+suffix+"\t"+d.Doc)
		}
		return names, directive
	}
}
