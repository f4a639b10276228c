package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/backup"
)

func newBackupCreate() *cobra.Command {
	var (
		kafka kafkaFlags
		place placeFlags
		work  workFlags
		opts  backup.CreateOptions
		form  outputFormat
	)
	cmd := &cobra.Command{
		Use:   "create PLACE [TOPIC...]",
		Short: "Back topics and groups' offsets up",
		Long: `Copies topics (names or patterns; default: all), their configurations and what groups have committed
for them to PLACE. Each partition is copied up to where it ended at the start; what comes later is left
to the next backup. Only what the place does not have yet is read and written, except that compacted
topics are read as a whole. A backup that was interrupted goes on where it was.

` + placeHelp + `

docs/operations/backup.md`,
		Example: `  raftsman backup create /var/backups/raftsman
  raftsman backup create s3://backups/raftsman 'orders*' --rate 33554432
  raftsman backup create s3://backups/raftsman --s3-endpoint http://127.0.0.1:9000`,
		Args: placeAnd,
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.ObjectBytes < backup.MinObjectBytes || opts.ObjectBytes > backup.MaxObjectBytes {
				return usageError{fmt.Errorf("--object-bytes is %d: it must be from %d to %d", opts.ObjectBytes, backup.MinObjectBytes, backup.MaxObjectBytes)}
			}
			to, err := place.open(args[0])
			if err != nil {
				return err
			}
			w, end, err := work.begin(cmd, "backup")
			if err != nil {
				return err
			}
			client, err := kafka.connect(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			opts.Topics, opts.Work = args[1:], w
			m, err := backup.Create(cmd.Context(), to, client, opts)
			end()
			if err != nil && cmd.Context().Err() != nil {
				return fmt.Errorf("interrupted; the same command goes on with it (%w)", err)
			}
			if err != nil {
				return damaged(err)
			}
			row := rowOf(m)
			return render(cmd, form, row, row.table)
		},
	}
	cmd.Flags().BoolVar(&opts.NoGroups, "no-groups", false, "leave the groups' offsets out")
	cmd.Flags().BoolVar(&opts.New, "new", false, "begin anew, even if a backup was interrupted")
	cmd.Flags().IntVar(&opts.ObjectBytes, "object-bytes", backup.DefaultObjectBytes, "about how large the objects are")
	kafka.bind(cmd)
	place.bind(cmd)
	work.bind(cmd)
	form.bind(cmd)
	return cmd
}
