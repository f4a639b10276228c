package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/backup"
	"github.com/raftsman/raftsman/internal/health"
)

func newBackupRestore() *cobra.Command {
	var (
		kafka  kafkaFlags
		to     httpFlags
		place  placeFlags
		work   workFlags
		id     string
		rename map[string]string
		config []string
		opts   backup.RestoreOptions
		form   outputFormat
	)
	cmd := &cobra.Command{
		Use:   "restore PLACE [TOPIC...]",
		Short: "Restore a backup into a cluster",
		Long: `Makes the topics of a backup (names or patterns; default: all), fills them with the records that they
had, at the same offsets, and commits the groups' offsets. Each object is checked before anything of it
is sent: a backup that is damaged is refused with the place. Topics that are there must be empty. They
take records from producers once everything is restored. A restore that was interrupted, or refused,
goes on where it was when it is repeated.

` + placeHelp + `

docs/operations/backup.md`,
		Example: `  raftsman backup restore /var/backups/raftsman
  raftsman backup restore s3://backups/raftsman orders --rename orders=orders-restored
  raftsman backup restore /var/backups/raftsman --id 20261122T021500.000Z --config retention.ms=-1`,
		Args: placeAnd,
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := place.open(args[0])
			if err != nil {
				return err
			}
			set, err := parseTopicConfig(config)
			if err != nil {
				return usageError{err}
			}
			opts.Config = make(map[string]string)
			for k, v := range set {
				opts.Config[k] = *v
			}
			w, end, err := work.begin(cmd, "restore")
			if err != nil {
				return err
			}
			m, err := backup.Find(cmd.Context(), from, id)
			if err != nil {
				return damaged(err)
			}
			client, err := kafka.connect(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			opts.Topics, opts.Rename, opts.Work = args[1:], rename, w
			done, err := backup.Restore(cmd.Context(), from, m, client, to.caller(cmd), opts)
			end()
			if err != nil && cmd.Context().Err() != nil {
				return fmt.Errorf("interrupted; the same command goes on with it (%w)", err)
			}
			if err != nil {
				return damaged(err)
			}
			return render(cmd, form, done, func(w io.Writer) {
				cells(w, "TOPIC", "RESTORED AS", "PARTITIONS", "BATCHES", "SIZE")
				for _, t := range done.Topics {
					cells(w, t.Topic, t.As, t.Partitions, t.Batches, health.Size(t.Bytes))
				}
				fmt.Fprintf(w, "\noffsets of %s\n", plural(done.Groups, "group", "groups"))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&id, "id", "", "which backup (default: the newest that is complete)")
	f.StringToStringVar(&rename, "rename", nil, "restore a topic under another name, OLD=NEW; may be repeated")
	f.StringArrayVar(&config, "config", nil, "a setting for the topics that are made, NAME=VALUE, over what they had; may be repeated")
	f.Int16Var(&opts.ReplicationFactor, "replication-factor", 0, "replicas of the topics that are made; 0: as many as they had")
	f.BoolVar(&opts.NoGroups, "no-groups", false, "leave the groups' offsets alone")
	f.BoolVar(&opts.OverwriteGroups, "overwrite-groups", false, "replace offsets that groups have committed in this cluster")
	kafka.bind(cmd)
	to.bind(cmd)
	place.bind(cmd)
	work.bind(cmd)
	form.bind(cmd)
	return cmd
}

// backupTimeout is how long a node may take for one request of a restore.
const backupTimeout = 3 * time.Minute

// caller sends a restore's requests. It is for several goroutines.
func (h *httpFlags) caller(cmd *cobra.Command) backup.Caller {
	return func(ctx context.Context, method, addr, path, contentType string, body []byte) (int, []byte, error) {
		addrs := []string{addr}
		if addr == "" {
			var err error
			if addrs, err = h.addresses(cmd); err != nil {
				return 0, nil, err
			}
		}
		var failed error
		for _, a := range addrs {
			status, answer, err := askNode(ctx, method, a, path, contentType, body, backupTimeout)
			if err == nil && (status != http.StatusServiceUnavailable || a == addrs[len(addrs)-1]) {
				return status, answer, nil
			}
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", a, err))
			}
		}
		return 0, nil, fmt.Errorf("can't reach a node: %w; is it running, and is --http right?", failed)
	}
}
