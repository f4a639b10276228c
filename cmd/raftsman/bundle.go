package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

const (
	bundleTimeout = 15 * time.Second // of one answer
	bundleLog     = 16 << 20         // bytes of the end of a log
)

// bundleFlags are the settings of debug bundle.
type bundleFlags struct {
	to     httpFlags
	format outputFormat
	file   string
	config string
	logs   []string
	units  []string
	since  time.Duration
}

// bundleReport says what is in a bundle; it is in it too.
type bundleReport struct {
	File    string       `json:"file"`
	Created time.Time    `json:"created"`
	Version string       `json:"version"` // of this command
	Entries []bundleItem `json:"entries"`
	Missing []bundleGap  `json:"missing"`
}

type bundleItem struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
}

// bundleGap is what could not be gathered.
type bundleGap struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func newDebugBundle() *cobra.Command {
	var b bundleFlags
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Gather what explains a problem into one file",
		Long: `Gathers into a .tar.gz what somebody else needs to understand a problem: what each
node says of itself and of the cluster, its metrics and what its goroutines do (if it
serves --pprof), the configuration file, the environment of this shell, logs, and
this host. Nothing is changed, and no record is read.

Passwords, secrets and tokens are replaced by ***. Names of topics and groups and
addresses stay: look at the file before you hand it on. What could not be gathered
is listed, and in bundle.json too. Exits with 1 if no node answered; the file is
written all the same.`,
		Example: `  raftsman debug bundle
  raftsman debug bundle --http 10.0.0.1:8080,10.0.0.2:8080 --log /var/log/raftsman.log
  raftsman debug bundle --unit raftsman --since 2h --file problem.tar.gz`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&b.file, "file", "", "file to write (default: raftsman-bundle-TIME.tar.gz)")
	f.StringVar(&b.config, "config", defaultConfigFile, "a node's configuration file on this host")
	f.StringArrayVar(&b.logs, "log", nil, "log file on this host, of which the last 16 MiB are taken; may be repeated")
	f.StringArrayVar(&b.units, "unit", nil, "systemd unit on this host, whose journal is taken; may be repeated")
	f.DurationVar(&b.since, "since", 24*time.Hour, "with --unit: how far back")
	b.to.bind(cmd)
	b.format.bind(cmd)
	return cmd
}

func (b *bundleFlags) run(cmd *cobra.Command) error {
	now := time.Now().UTC()
	name := cmp.Or(b.file, "raftsman-bundle-"+now.Format("20060102-150405")+".tar.gz")
	out, err := os.CreateTemp(filepath.Dir(name), ".raftsman-bundle-*") // readable for its owner alone
	if err != nil {
		var why *fs.PathError
		if errors.As(err, &why) {
			err = why.Err
		}
		return fmt.Errorf("--file %s: can't write there: %w", name, err)
	}
	defer os.Remove(out.Name()) // fails when it has its name already
	w := newBundle(out, now)
	w.report.File = name
	nodes := b.gather(cmd, w)
	if err := errors.Join(w.close(), out.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if cmd.Context().Err() != nil {
		return errors.New("interrupted; nothing was written")
	}
	if err := os.Rename(out.Name(), name); err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	if err := render(cmd, b.format, w.report, w.report.table); err != nil {
		return err
	}
	if nodes == 0 {
		return fmt.Errorf("no node answered; %s holds what this host knows (--http or RAFTSMAN_HTTP name the nodes' HTTP addresses)", name)
	}
	return nil
}

// gather writes all files, and returns how many nodes have answered.
func (b *bundleFlags) gather(cmd *cobra.Command, w *bundle) (nodes int) {
	shown := newProgress(cmd.ErrOrStderr())
	defer shown.end()
	shown.note("gathering: this host")
	b.host(cmd, w)
	shown.note("gathering: the cluster")
	var info clusterInfo
	for _, p := range []string{"/cluster.json", "/health.json", "/nodes", "/partitions", "/ops", "/rebalance"} {
		entry := "cluster/" + strings.TrimSuffix(strings.TrimPrefix(p, "/"), ".json") + ".json"
		status, body, err := b.to.get(cmd, p, bundleTimeout)
		if err = errors.Join(err, notOK(status, body)); err != nil {
			w.missing(entry, err)
			continue
		}
		w.add(entry, body)
		if p == "/cluster.json" {
			if err := json.Unmarshal(body, &info); err != nil {
				w.missing("nodes", err)
			}
		}
	}
	for _, n := range info.Nodes {
		shown.note(fmt.Sprintf("gathering: node %d at %s", n.Node, n.HTTP))
		if b.node(cmd, w, n) {
			nodes++
		}
	}
	return nodes
}

// node asks one node of itself.
func (b *bundleFlags) node(cmd *cobra.Command, w *bundle, n nodeInfo) (answered bool) {
	for _, one := range []struct{ entry, path string }{
		{"readyz.txt", "/readyz"}, {"cluster.json", "/cluster.json"}, {"health.json", "/health.json"}, {"log-level.json", "/log/level"},
		{"metrics.txt", "/metrics"}, {"goroutines.txt", "/debug/pprof/goroutine?debug=2"}, {"heap.pprof", "/debug/pprof/heap"},
	} {
		entry := fmt.Sprintf("node-%d/%s", n.Node, one.entry)
		status, body, err := askOne(cmd, http.MethodGet, n.HTTP, one.path, nil, bundleTimeout)
		if err != nil {
			w.missing(entry, err)
			if !answered {
				return false // it would be the same for all
			}
			continue
		}
		answered = true
		switch {
		case one.entry == "readyz.txt": // 503 is an answer too
			w.add(entry, fmt.Appendf(nil, "%d %s\n", status, body))
		case status == http.StatusNotFound && strings.HasPrefix(one.path, "/debug/"):
			w.missing(entry, errors.New("the node does not serve --pprof"))
		case status != http.StatusOK:
			w.missing(entry, notOK(status, body))
		case strings.HasSuffix(entry, ".pprof"):
			w.addRaw(entry, body)
		default:
			w.add(entry, body)
		}
	}
	return answered
}

func notOK(status int, body []byte) error {
	if status == 0 || status == http.StatusOK {
		return nil
	}
	return fmt.Errorf("%d %s", status, firstLine(body))
}

// host adds what this host knows.
func (b *bundleFlags) host(cmd *cobra.Command, w *bundle) {
	w.addJSON("host.json", hostInfo())
	var env []string
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "RAFTSMAN_") || strings.HasPrefix(v, "ETCDCTL_") {
			env = append(env, v)
		}
	}
	w.addJSON("environment.json", listOf(env))
	if text, err := os.ReadFile(b.config); err == nil {
		w.add("config.yaml", text)
	} else if !errors.Is(err, os.ErrNotExist) || cmd.Flags().Changed("config") {
		w.missing("config.yaml", err)
	}
	for i, name := range b.logs {
		entry := fmt.Sprintf("logs/%d-%s", i+1, path.Base(filepath.ToSlash(name)))
		if text, err := tailOf(name, bundleLog); err != nil {
			w.missing(entry, err)
		} else {
			w.add(entry, text)
		}
	}
	for i, unit := range b.units {
		entry := fmt.Sprintf("logs/%d-%s.journal", len(b.logs)+i+1, path.Base(filepath.ToSlash(unit)))
		journal := exec.CommandContext(cmd.Context(), "journalctl", "--no-pager", "--output=short-iso-precise",
			fmt.Sprintf("--since=-%ds", int(b.since.Seconds())), "--unit="+unit)
		text, err := journal.Output()
		if err != nil {
			w.missing(entry, fmt.Errorf("journalctl: %w", err))
			continue
		}
		w.add(entry, text[max(0, len(text)-bundleLog):])
	}
}

// tailOf reads the last bytes of a file.
func tailOf(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(max(0, info.Size()-most), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// hostInfo is what this process runs on.
func hostInfo() map[string]any {
	info := map[string]any{"raftsman": version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "cpus": runtime.NumCPU()}
	if name, err := os.Hostname(); err == nil {
		info["host"] = name
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		info["kernel"] = unix.ByteSliceToString(uts.Release[:])
	}
	var mem unix.Sysinfo_t
	if unix.Sysinfo(&mem) == nil {
		info["memory_bytes"] = uint64(mem.Totalram) * uint64(mem.Unit)
		info["uptime_seconds"] = mem.Uptime
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		info["open_files_limit"] = files.Cur
	}
	return info
}

func (r *bundleReport) table(w io.Writer) {
	heading(w, "FILE", "BYTES")
	for _, e := range r.Entries {
		cells(w, e.Name, e.Bytes)
	}
	if len(r.Missing) > 0 {
		fmt.Fprintln(w)
		heading(w, "MISSING", "REASON")
		for _, m := range r.Missing {
			cells(w, m.Name, firstLine([]byte(m.Reason)))
		}
	}
	fmt.Fprintf(w, "\nwritten to %s; look at it before you hand it on\n", r.File)
}

// bundle writes files into a .tar.gz. The first error stays.
type bundle struct {
	gz     *gzip.Writer
	tar    *tar.Writer
	report *bundleReport
	err    error
}

func newBundle(w io.Writer, now time.Time) *bundle {
	gz := gzip.NewWriter(w)
	return &bundle{gz: gz, tar: tar.NewWriter(gz), report: &bundleReport{Created: now, Version: version(), Entries: []bundleItem{}, Missing: []bundleGap{}}}
}

// add writes text without its secrets.
func (b *bundle) add(name string, text []byte) { b.addRaw(name, redact(text)) }

func (b *bundle) addJSON(name string, value any) {
	var text bytes.Buffer
	if err := encodeJSON(&text, value); err != nil {
		b.missing(name, err)
		return
	}
	b.add(name, text.Bytes())
}

func (b *bundle) addRaw(name string, data []byte) {
	b.report.Entries = append(b.report.Entries, bundleItem{name, len(data)})
	b.write(name, data)
}

func (b *bundle) write(name string, data []byte) {
	if b.err != nil {
		return
	}
	head := &tar.Header{Name: "raftsman-bundle/" + name, Mode: 0o600, Size: int64(len(data)), ModTime: b.report.Created}
	if b.err = b.tar.WriteHeader(head); b.err == nil {
		_, b.err = b.tar.Write(data)
	}
}

func (b *bundle) missing(name string, err error) {
	b.report.Missing = append(b.report.Missing, bundleGap{name, string(redact([]byte(err.Error())))})
}

// close adds the report and ends the file.
func (b *bundle) close() error {
	var text bytes.Buffer
	if err := encodeJSON(&text, b.report); err != nil {
		return err
	}
	b.write("bundle.json", text.Bytes())
	return errors.Join(b.err, b.tar.Close(), b.gz.Close())
}
