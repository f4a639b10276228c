package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/backup"
	"github.com/raftsman/raftsman/internal/health"
)

// backupRow is a backup as it is shown.
type backupRow struct {
	ID         string    `json:"id"`
	State      string    `json:"state"` // complete, interrupted or damaged
	Cluster    string    `json:"cluster_id,omitempty"`
	Created    time.Time `json:"created,omitzero"`
	Completed  time.Time `json:"completed,omitzero"`
	Topics     []string  `json:"topics"`
	Partitions int       `json:"partitions"`
	Groups     int       `json:"groups"`
	Batches    int64     `json:"batches"`
	Bytes      int64     `json:"bytes"`
	Error      string    `json:"error,omitempty"`
}

func rowOf(m backup.Manifest) backupRow {
	row := backupRow{ID: m.ID, State: "complete", Cluster: m.ClusterID, Created: m.Created, Completed: m.Completed, Topics: []string{}, Groups: len(m.Groups)}
	row.Partitions, row.Batches, row.Bytes = m.Totals()
	for _, t := range m.Topics {
		row.Topics = append(row.Topics, t.Name)
	}
	if !m.Complete() {
		row.State = "interrupted"
	}
	return row
}

func (r backupRow) table(w io.Writer) { backupTable(w, []backupRow{r}) }

func backupTable(w io.Writer, rows []backupRow) {
	cells(w, "ID", "STATE", "TOPICS", "PARTITIONS", "GROUPS", "BATCHES", "SIZE", "CLUSTER")
	for _, r := range rows {
		cells(w, r.ID, r.State, len(r.Topics), r.Partitions, r.Groups, r.Batches, health.Size(r.Bytes), cmp.Or(r.Cluster, "-"))
	}
	for _, r := range rows {
		if r.Error != "" {
			fmt.Fprintf(w, "\n%s: %s\n", r.ID, r.Error)
		}
	}
}

func newBackupList() *cobra.Command {
	var (
		place placeFlags
		form  outputFormat
	)
	cmd := &cobra.Command{
		Use:     "list PLACE",
		Short:   "Show the backups in a place",
		Long:    "Shows the backups in a place, oldest first, by what their manifests say.\n\n" + placeHelp,
		Example: "  raftsman backup list /var/backups/raftsman",
		Args:    exactArgs("PLACE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := place.open(args[0])
			if err != nil {
				return err
			}
			all, err := backup.Describe(cmd.Context(), from)
			if err != nil {
				return err
			}
			rows := []backupRow{}
			for _, l := range all {
				if l.Manifest == nil {
					rows = append(rows, backupRow{ID: l.ID, State: "damaged", Topics: []string{}, Error: l.Err.Error()})
					continue
				}
				rows = append(rows, rowOf(*l.Manifest))
			}
			return render(cmd, form, rows, func(w io.Writer) { backupTable(w, rows) })
		},
	}
	place.bind(cmd)
	form.bind(cmd)
	return cmd
}
