package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// config is what a run is told.
type config struct {
	workloads, systemNames string
	chosen                 []*choice
	systems                []*system

	bin, dir, out string
	raftsmanFlags []string
	rounds, tries int
	round, warm   time.Duration
	others        float64
	fillCache     bool
	retain        int64

	size, window, clients int
	readBytes             int64
	consumers, rate       int
	connections           int
	kills                 int
	settle, soak          time.Duration
}

func (cfg *config) bind(f *flag.FlagSet) {
	f.StringVar(&cfg.workloads, "workloads", defaultWorkloads, "what to measure, by comma; name:N is a workload with N partitions\n"+workloadHelp())
	f.StringVar(&cfg.systemNames, "systems", allSystems(), "what is measured, by comma")
	f.StringVar(&cfg.bin, "bin", "bin", "directory with the programs raftsman, etcd and nats-server")
	f.StringVar(&cfg.dir, "dir", "", "directory on a real disk for the systems' data, which is removed again (default: a new one in the directory for temporary files)")
	f.StringVar(&cfg.out, "out", "bench.jsonl", "results file, appended to")
	f.Func("raftsman-flag", "a flag for raftsman serve, such as --wal-file-size=33554432; may be repeated", func(s string) error {
		cfg.raftsmanFlags = append(cfg.raftsmanFlags, s)
		return nil
	})
	f.IntVar(&cfg.rounds, "rounds", 5, "rounds that count, of each workload and system")
	f.IntVar(&cfg.tries, "tries", 5, "how often a round that was disturbed is made before the run gives up on it")
	f.DurationVar(&cfg.round, "round", time.Minute, "how long a round counts")
	f.DurationVar(&cfg.warm, "warm", 10*time.Second, "how long a round warms up before it counts")
	f.Float64Var(&cfg.others, "others", 0.1, "cores that anything else may use during a round; with more it is discarded and made again")
	f.BoolVar(&cfg.fillCache, "fill-cache", true, "fill free memory with page cache before the first round, by a file in -dir that is as large")
	f.Int64Var(&cfg.retain, "retain", 8<<30, "bytes that a node keeps of all partitions together; kfake at most an eighth of the memory")
	f.IntVar(&cfg.size, "size", 1024, "bytes of a message, which can't be compressed")
	f.IntVar(&cfg.window, "window", 1024, "messages outstanding, all partitions together (pipelined, failover, soak)")
	f.IntVar(&cfg.clients, "clients", 16, "producers with connections of their own, at most one a partition (pipelined, failover, soak)")
	f.Int64Var(&cfg.readBytes, "read-bytes", 1<<30, "bytes to read, all partitions together (read-warm, read-cold)")
	f.IntVar(&cfg.consumers, "consumers", 1000, "consumers, dealt out to the partitions (tail)")
	f.IntVar(&cfg.rate, "rate", 10_000, "messages sent a second, all partitions together (tail)")
	f.IntVar(&cfg.connections, "connections", 100, "producers with one message outstanding (connections)")
	f.IntVar(&cfg.kills, "kills", 10, "leaders killed in a round (failover)")
	f.DurationVar(&cfg.settle, "settle", 15*time.Second, "how long nothing is done before idleness is measured (idle)")
	f.DurationVar(&cfg.soak, "soak", time.Hour, "how long the one round of soak counts")
}

func allSystems() string {
	var names []string
	for _, s := range systems {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

// check resolves names, refuses what would mislead, and makes the directory for data.
func (cfg *config) check() (remove func(), err error) {
	remove = func() {}
	for name := range strings.SplitSeq(cfg.systemNames, ",") {
		i := slices.IndexFunc(systems, func(s system) bool { return s.name == name })
		if i < 0 {
			return remove, fmt.Errorf("-systems: there is no %q; there are %s", name, allSystems())
		}
		cfg.systems = append(cfg.systems, &systems[i])
	}
	for name := range strings.SplitSeq(cfg.workloads, ",") {
		w, err := choose(name)
		if err != nil {
			return remove, fmt.Errorf("-workloads: %w", err)
		}
		cfg.chosen = append(cfg.chosen, w)
	}
	for name, v := range map[string]int{"rounds": cfg.rounds, "tries": cfg.tries, "window": cfg.window, "clients": cfg.clients,
		"consumers": cfg.consumers, "rate": cfg.rate, "connections": cfg.connections, "kills": cfg.kills} {
		if v < 1 {
			return remove, fmt.Errorf("-%s %d: want at least 1", name, v)
		}
	}
	if cfg.size < headerBytes || cfg.size > 1_000_000 {
		return remove, fmt.Errorf("-size %d: want %d to 1000000, the most that every system takes by default", cfg.size, headerBytes)
	}
	if cfg.round <= 0 || cfg.warm < 0 || cfg.settle < 0 || cfg.soak <= 0 {
		return remove, errors.New("-round and -soak must be positive, -warm and -settle not negative")
	}
	if cfg.retain < 64<<20 || cfg.readBytes < 1<<20 || cfg.readBytes > cfg.retain/2 {
		return remove, errors.New("-retain must be at least 64 MiB, and -read-bytes 1 MiB to half of -retain")
	}
	if remove, err = cfg.makeDir(); err != nil {
		return remove, err
	}
	if err := cfg.checkDisk(); err != nil {
		remove()
		return func() {}, err
	}
	return remove, nil
}

func (cfg *config) makeDir() (remove func(), err error) {
	if cfg.dir != "" {
		return func() {}, os.MkdirAll(cfg.dir, 0o755)
	}
	cfg.dir, err = os.MkdirTemp("", "raftsman-bench-")
	return func() { _ = os.RemoveAll(cfg.dir) }, err // it is scratch
}

// nodeOverhead is what a node writes beside what it retains: its log, segments that are not
// closed yet.
const nodeOverhead = 2 << 30

// checkDisk refuses a disk that is none, and one that is too small.
func (cfg *config) checkDisk() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(cfg.dir, &fs); err != nil {
		return fmt.Errorf("%s: %w", cfg.dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return fmt.Errorf("%s is memory, where fsync costs nothing: name a directory on a disk with -dir", cfg.dir)
	}
	need := 3 * (cfg.retain + nodeOverhead)
	if cfg.fillCache {
		free, err := memoryFree()
		if err != nil {
			return err
		}
		need += max(0, free-spareMemory)
	}
	if has := int64(fs.Bavail) * fs.Bsize; has < need {
		return fmt.Errorf("%s has %d MiB free, and a run may need %d: name another disk with -dir, or lower -retain", cfg.dir, has>>20, need>>20)
	}
	return nil
}

// memoryFree is what nothing uses, not even the page cache.
func memoryFree() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, err
	}
	return int64(info.Freeram * uint64(cmp.Or(info.Unit, 1))), nil
}

// roundsOf is how many rounds a workload has.
func (cfg *config) roundsOf(w *choice) int {
	if w.once {
		return 1
	}
	return cfg.rounds
}
