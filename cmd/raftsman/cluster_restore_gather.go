package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/node"
)

// gathered is what the nodes have said.
type gathered struct {
	evidence    []cluster.Evidence
	etcd        []string // endpoints that they use
	unreachable []string
}

// gather asks the nodes that were named, and those that these know of.
func (f *restoreFlags) gather(cmd *cobra.Command) (*gathered, error) {
	g := &gathered{}
	spoke := map[int32]bool{}
	for _, dir := range f.dataDirs {
		e, err := node.ReadEvidence(vfs.OS, dir, f.etcd.cfg.Cluster, f.etcd.cfg.Etcd.Prefix)
		if err != nil {
			return nil, err
		}
		if !spoke[e.Node] {
			spoke[e.Node] = true
			g.evidence = append(g.evidence, e)
		}
	}
	addrs := f.http
	if env := os.Getenv("RAFTSMAN_HTTP"); env != "" && !cmd.Flags().Changed("http") {
		addrs = strings.Split(env, ",")
	}
	if len(f.dataDirs) > 0 && !cmd.Flags().Changed("http") && os.Getenv("RAFTSMAN_HTTP") == "" {
		addrs = nil // all of them may be stopped, and whoever is at the default address is a guess
	}
	asked := map[string]bool{}
	for len(addrs) > 0 {
		addr := addrs[0]
		addrs = addrs[1:]
		if asked[addr] {
			continue
		}
		asked[addr] = true
		e, more, err := f.ask(cmd.Context(), addr, g)
		if err != nil {
			g.unreachable = append(g.unreachable, fmt.Sprintf("%s: %v", addr, err))
			continue
		}
		addrs = append(addrs, more...)
		if spoke[e.Node] {
			g.replace(e)
			continue
		}
		spoke[e.Node] = true
		g.evidence = append(g.evidence, e)
	}
	if len(g.evidence) == 0 {
		return nil, fmt.Errorf("no node answers: %s; name one with --http, or give data directories with --data-dir", strings.Join(g.unreachable, "; "))
	}
	return g, nil
}

// replace prefers what a running node says to what its directory says.
func (g *gathered) replace(e cluster.Evidence) {
	for i := range g.evidence {
		if g.evidence[i].Node == e.Node && !g.evidence[i].Live {
			g.evidence[i] = e
		}
	}
}

// ask reads a node's view, and where the others are.
func (f *restoreFlags) ask(ctx context.Context, addr string, g *gathered) (e cluster.Evidence, more []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, viewTimeout)
	defer cancel()
	var info clusterInfo
	if err := fetchJSON(ctx, addr, "/cluster.json", maxAnswer, &info); err != nil {
		return e, nil, err
	}
	if info.Cluster != f.etcd.cfg.Cluster {
		return e, nil, fmt.Errorf("this node is of cluster %q, not of %q (--cluster)", info.Cluster, f.etcd.cfg.Cluster)
	}
	for _, n := range info.Nodes {
		more = append(more, n.HTTP)
	}
	if g.etcd == nil {
		g.etcd = info.Etcd
	}
	err = fetchJSON(ctx, addr, "/cluster/view", maxView, &e)
	e.Source = addr
	return e, more, err
}

// fetchJSON asks a node for a path.
func fetchJSON(ctx context.Context, addr, path string, limit int64, into any) error {
	u, err := httpURL(addr, path)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, limit)).Decode(into); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}
