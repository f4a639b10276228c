package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/pkg/node"
)

const (
	viewTimeout  = 30 * time.Second // of one node's view
	restoreLimit = 5 * time.Minute  // of all writes
	thawLimit    = 30 * time.Second
	maxView      = 1 << 30
	restoreAlive = 10 * time.Second // the client notices a dead endpoint in time for a lease of this life
)

// restoreFlags are the flags of cluster restore-metadata.
type restoreFlags struct {
	etcd         nodeFlags // etcd's part of it
	http         []string
	dataDirs     []string
	dryRun       bool
	yes          bool
	force        bool
	allowMissing bool
	format       outputFormat
}

// restoreResult is what it shows.
type restoreResult struct {
	*cluster.RestorePlan
	Unreachable []string `json:"unreachable,omitempty"`
	Refused     []string `json:"refused,omitempty"`
	Restored    bool     `json:"restored"`
	Thawed      []int32  `json:"thawed,omitempty"`
}

func newRestoreMetadata() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore-metadata",
		Short: "Rewrite the cluster's keys in etcd from what the nodes know",
		Long: `For an etcd that was lost, emptied or restored from a backup. The nodes have frozen
changes then and serve records on. This reads the view of every node (of a stopped one from
its data directory), shows what it is going to write and asks. It rewrites topics, assignments
and tombstones, raises the numbers of producers, replicas and nodes above all that were given
out, and raises the cluster's epoch, which ends the freeze. It changes no record and stops no
client. Interrupted, it is run again.`,
		Example: `  raftsman cluster restore-metadata --dry-run
  raftsman cluster restore-metadata --http 10.0.0.1:8080 --etcd-endpoints http://10.0.0.9:2379
  raftsman cluster restore-metadata --http 10.0.0.1:8080 --data-dir /var/lib/raftsman --yes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fs := cmd.Flags()
	c := &f.etcd.cfg
	fs.StringVar(&c.Cluster, "cluster", "default", "name of the cluster, part of its keys in etcd")
	fs.StringSliceVar(&c.Etcd.Endpoints, "etcd-endpoints", nil, "etcd's client URLs (default: those that the nodes use)")
	fs.StringVar(&c.Etcd.DiscoverySRV, "etcd-discovery-srv", "", "domain whose SRV records name etcd, instead of endpoints")
	fs.StringVar(&c.Etcd.Prefix, "etcd-prefix", "/raftsman", "prefix of all keys in etcd")
	fs.StringVar(&c.Etcd.CACert, "etcd-cacert", "", "CA certificate that verifies etcd, PEM file")
	fs.StringVar(&c.Etcd.Cert, "etcd-cert", "", "client certificate for etcd, PEM file")
	fs.StringVar(&c.Etcd.Key, "etcd-key", "", "key of the client certificate, PEM file")
	fs.StringVar(&c.Etcd.User, "etcd-user", "", "etcd user, as NAME or NAME:PASSWORD")
	fs.StringVar(&c.Etcd.PasswordFile, "etcd-password-file", "", "file with the etcd user's password")
	fs.StringSliceVar(&f.http, "http", []string{"127.0.0.1:8080"}, "HTTP addresses of nodes, HOST:PORT,...; the others are found through them (environment: RAFTSMAN_HTTP)")
	fs.StringArrayVar(&f.dataDirs, "data-dir", nil, "data directory of a node that is stopped; may be repeated")
	fs.BoolVar(&f.dryRun, "dry-run", false, "show what would be written, and write nothing")
	fs.BoolVar(&f.yes, "yes", false, "do not ask")
	fs.BoolVar(&f.force, "force", false, "restore though etcd seems to be well, or holds another cluster under this prefix")
	fs.BoolVar(&f.allowMissing, "allow-missing-nodes", false, "restore without the views of some nodes")
	f.format.bind(cmd)
	return cmd
}

func (f *restoreFlags) run(cmd *cobra.Command) error {
	from, err := f.settings(cmd)
	if err != nil {
		return err
	}
	keys, err := cluster.NewKeys(f.etcd.cfg.Etcd.Prefix, f.etcd.cfg.Cluster)
	if err != nil {
		return usageError{err}
	}
	found, err := f.gather(cmd)
	if err != nil {
		return err
	}
	client, err := f.dial(from, found.etcd)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), viewTimeout)
	defer cancel()
	now, err := cluster.ReadSnapshot(ctx, client, keys)
	if err != nil {
		return fmt.Errorf("%w; etcd must be there, with a majority, before its keys can be rewritten", err)
	}
	plan, err := cluster.PlanRestore(keys, now, found.evidence)
	if err != nil {
		return err
	}
	result := &restoreResult{RestorePlan: plan, Unreachable: found.unreachable}
	result.Refused = f.refusals(result)
	if f.dryRun || len(result.Refused) > 0 {
		if err := render(cmd, f.format, result, result.table); err != nil {
			return err
		}
		if len(result.Refused) > 0 {
			return fmt.Errorf("refused: %s", strings.Join(result.Refused, "; "))
		}
		return nil
	}
	if err := f.confirm(cmd, result); err != nil {
		return err
	}
	return f.carryOut(cmd, client, keys, result)
}

// settings layers what reaches etcd: from flags and the environment. A node's
// configuration file has keys that this command does not know.
func (f *restoreFlags) settings(cmd *cobra.Command) (origins, error) {
	return layer(cmd, os.DevNull, false, "output", "http", "data-dir", "dry-run", "yes", "force", "allow-missing-nodes")
}

// dial connects to the etcd of the flags, else to the one that the nodes use.
func (f *restoreFlags) dial(from origins, used []string) (*clientv3.Client, error) {
	f.etcd.chooseEtcd(from)
	e := &f.etcd.cfg.Etcd
	if len(e.Endpoints) == 0 && e.DiscoverySRV == "" {
		e.Endpoints = used
	}
	if len(e.Endpoints) == 0 && e.DiscoverySRV == "" {
		e.Endpoints = []string{"http://127.0.0.1:2379"}
	}
	return node.DialEtcd(*e, restoreAlive)
}

// refusals says why the plan is not carried out without a further flag.
func (f *restoreFlags) refusals(r *restoreResult) (why []string) {
	if r.Well && !f.force {
		why = append(why, "etcd holds what the nodes know and nothing is frozen: there is nothing to restore; --force does it all the same")
	}
	if r.Foreign != "" && !f.force {
		why = append(why, fmt.Sprintf("etcd holds another cluster (%s) under %s, whose keys would be overwritten: check --etcd-endpoints and --cluster, or use --force", r.Foreign, r.Prefix))
	}
	if len(r.Missing) > 0 && !f.allowMissing {
		why = append(why, fmt.Sprintf("the views of nodes %s are missing: start them, name their address with --http, give their data directory with --data-dir, or go without them with --allow-missing-nodes", numbers(r.Missing)))
	}
	return why
}

// confirm shows the plan and asks for the cluster's name.
func (f *restoreFlags) confirm(cmd *cobra.Command, r *restoreResult) error {
	if f.yes {
		return nil
	}
	if in, ok := cmd.InOrStdin().(*os.File); ok && !isTerminal(in) {
		return usageError{errors.New("nobody can be asked: use --dry-run to see what it would do, and --yes to do it")}
	}
	if err := renderTo(cmd.ErrOrStderr(), r.table); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "\nType the cluster's name (%s) to write this: ", f.etcd.cfg.Cluster)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(line) != f.etcd.cfg.Cluster {
		return errors.New("not confirmed; nothing was written (--yes does not ask)")
	}
	return nil
}

func (f *restoreFlags) carryOut(cmd *cobra.Command, client *clientv3.Client, keys cluster.Keys, r *restoreResult) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), restoreLimit)
	defer cancel()
	err := cluster.Restore(ctx, client, keys, r.RestorePlan, func(done int) {
		if len(r.Writes) > 1000 {
			fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d keys\n", done, len(r.Writes))
		}
	})
	if err != nil {
		return fmt.Errorf("restore the metadata: %w; the nodes stay frozen and serve records on: run it again to complete it", err)
	}
	r.Restored = true
	live := f.awaitThaw(cmd, r)
	if err := render(cmd, f.format, r, r.table); err != nil {
		return err
	}
	if len(r.Thawed) < live {
		return fmt.Errorf("the keys are written, but within %s only nodes %s accept changes again; see the others' logs", thawLimit, numbers(r.Thawed))
	}
	return nil
}

// awaitThaw waits until the nodes that gave their view see the new epoch, and
// returns how many they are.
func (f *restoreFlags) awaitThaw(cmd *cobra.Command, r *restoreResult) (live int) {
	waiting := map[int32]string{}
	for _, v := range r.Views {
		if !slices.Contains(f.dataDirs, v.Source) {
			waiting[v.Node] = v.Source
		}
	}
	live = len(waiting)
	ctx, cancel := context.WithTimeout(cmd.Context(), thawLimit)
	defer cancel()
	pause := time.NewTicker(200 * time.Millisecond)
	defer pause.Stop()
	for len(waiting) > 0 {
		for id, addr := range waiting {
			var info clusterInfo
			if fetchJSON(ctx, addr, "/cluster.json", maxAnswer, &info) == nil && info.Frozen == "" && info.Epoch >= r.Epoch {
				r.Thawed = append(r.Thawed, id)
				delete(waiting, id)
			}
		}
		select {
		case <-ctx.Done():
			slices.Sort(r.Thawed)
			return live
		case <-pause.C:
		}
	}
	slices.Sort(r.Thawed)
	return live
}
