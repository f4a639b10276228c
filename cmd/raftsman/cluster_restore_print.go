package main

import (
	"bytes"
	"fmt"
	"io"
)

// shownWrites is how many keys and differences the table shows; -o json shows all.
const shownWrites = 40

// renderTo writes a table to where a person reads it.
func renderTo(out io.Writer, table func(w io.Writer)) error {
	var text bytes.Buffer
	table(&text)
	_, err := io.WriteString(out, screenOf(out).layout(text.String()))
	return err
}

func (r *restoreResult) table(w io.Writer) {
	cells(w, "cluster id", r.ClusterID)
	cells(w, "keys", r.Prefix)
	cells(w, "etcd now", r.Etcd)
	fmt.Fprintln(w)
	heading(w, "NODE", "VIEW FROM", "EPOCH", "REVISION", "TOPICS", "ASSIGNMENTS", "REPLICAS", "FROZEN")
	for _, v := range r.Views {
		if v.Missing != "" {
			cells(w, v.Node, v.Source, "-", "-", "-", "-", v.Replicas, v.Missing)
			continue
		}
		cells(w, v.Node, v.Source, v.Epoch, v.Revision, v.Topics, v.Assigned, v.Replicas, orDash(v.Frozen))
	}
	for _, id := range r.Missing {
		cells(w, id, "MISSING", "-", "-", "-", "-", "-", "-")
	}
	for _, u := range r.Unreachable {
		fmt.Fprintln(w, "no answer from", u)
	}
	fmt.Fprintln(w)
	if len(r.Differences) > 0 {
		fmt.Fprintln(w, "differences:")
		for i, d := range r.Differences {
			if i == shownWrites {
				fmt.Fprintf(w, "  … and %d more; -o json shows them\n", len(r.Differences)-shownWrites)
				break
			}
			fmt.Fprintln(w, " ", d)
		}
		fmt.Fprintln(w)
	}
	verb := "to be written"
	if r.Restored {
		verb = "written"
	}
	fmt.Fprintf(w, "%s: %s, %s, %s, numbers from %d (producers), %d (replicas), %d (nodes); then meta with epoch %d\n", verb,
		plural(r.Topics, "topic", "topics"), plural(r.Assignments, "assignment", "assignments"), plural(r.Tombstones, "tombstone", "tombstones"),
		r.ProducerIDs, r.ReplicaIDs, r.NodeIDs, r.Epoch)
	for i, k := range r.Writes {
		if i == shownWrites {
			fmt.Fprintf(w, "  … and %d more keys; -o json shows them\n", len(r.Writes)-shownWrites)
			break
		}
		switch {
		case k.Delete:
			fmt.Fprintf(w, "  delete %s\n", k.Key)
		case k.Was == "":
			fmt.Fprintf(w, "  add    %s %s\n", k.Key, k.Brief())
		default:
			fmt.Fprintf(w, "  change %s %s\n", k.Key, k.Brief())
		}
	}
	if r.Restored {
		fmt.Fprintf(w, "nodes that accept changes again: %s\n", numbers(r.Thawed))
	}
}
