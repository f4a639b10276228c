package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/backup"
)

// backupVerdict is what backup verify shows.
type backupVerdict struct {
	backupRow
	Damage []*backup.DamageError `json:"damage"`
}

func newBackupVerify() *cobra.Command {
	var (
		place placeFlags
		work  workFlags
		id    string
		form  outputFormat
	)
	cmd := &cobra.Command{
		Use:   "verify PLACE",
		Short: "Read a backup and compare it with its checksums",
		Long: `Reads all of a backup and says where it is not what was written: object, bytes, partition and offsets.
It needs no cluster. Exit codes: 0 it is whole; 3 it is damaged; 1 it could not be read.

` + placeHelp,
		Example: `  raftsman backup verify /var/backups/raftsman
  raftsman backup verify s3://backups/raftsman --id 20261122T021500.000Z -o json`,
		Args: exactArgs("PLACE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := place.open(args[0])
			if err != nil {
				return err
			}
			w, end, err := work.begin(cmd, "verify")
			if err != nil {
				return err
			}
			m, err := backup.Find(cmd.Context(), from, id)
			if err != nil {
				return damaged(err)
			}
			v := backupVerdict{rowOf(m), []*backup.DamageError{}}
			err = backup.Verify(cmd.Context(), from, m, backup.VerifyOptions{Work: w, Damage: func(d *backup.DamageError) { v.Damage = append(v.Damage, d) }})
			end()
			if err != nil {
				return err
			}
			if len(v.Damage) > 0 {
				v.State = "damaged"
			}
			err = render(cmd, form, v, func(w io.Writer) {
				v.table(w)
				for _, d := range v.Damage {
					fmt.Fprintf(w, "\n%v\n", d)
				}
			})
			if err == nil && len(v.Damage) > 0 {
				err = exitError{code: exitRefused}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "which backup (default: the newest that is complete)")
	place.bind(cmd)
	work.bind(cmd)
	form.bind(cmd)
	return cmd
}
