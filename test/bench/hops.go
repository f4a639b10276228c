package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// hops compares Go benchmarks of the working tree with those of another commit. Test binaries of
// both are built first, and run alternately, so that what drifts drifts for both.
func hops(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("hops", flag.ContinueOnError)
	base := f.String("base", "", "commit to compare with (default: where this branch left main)")
	pattern := f.String("bench", ".", "benchmarks to run, as go test's -bench")
	packages := f.String("packages", "./internal/... ./pkg/...", "packages, by blank")
	count := f.Int("count", 6, "how often each benchmark runs; benchstat wants at least 6 to be sure")
	benchtime := f.String("benchtime", "1s", "as go test's")
	keep := f.String("keep", "", "directory to keep what was printed in, as old.txt and new.txt")
	if err := f.Parse(args); err != nil {
		return err
	}
	top, err := git(ctx, ".", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	commit, err := baseCommit(ctx, top, *base)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "raftsman-hops-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if *keep == "" {
		*keep = scratch
	} else if err := os.MkdirAll(*keep, 0o755); err != nil {
		return err
	}
	tree := filepath.Join(scratch, "tree")
	if _, err := git(ctx, top, "worktree", "add", "--detach", tree, commit); err != nil {
		return err
	}
	defer func() {
		// Also after an interrupt: a worktree that is left stays in git's list.
		_, _ = git(context.WithoutCancel(ctx), top, "worktree", "remove", "--force", tree)
	}()
	sides := []*side{
		{name: "old", tree: tree, bin: filepath.Join(scratch, "old"), out: filepath.Join(*keep, "old.txt")},
		{name: "new", tree: top, bin: filepath.Join(scratch, "new"), out: filepath.Join(*keep, "new.txt")},
	}
	old, now := sides[0], sides[1]
	for _, s := range sides {
		if err := s.build(ctx, strings.Fields(*packages)); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "old: %.12s, %d packages; new: the working tree, %d packages\n", commit, len(old.tests), len(now.tests))
	if err := alternate(ctx, sides, *count, *pattern, *benchtime); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "benchstat", "old="+old.out, "new="+now.out)
	cmd.Dir = filepath.Join(top, "test", "bench")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// baseCommit is what is named, or else the last one that is on main too.
func baseCommit(ctx context.Context, top, name string) (string, error) {
	if name != "" {
		return git(ctx, top, "rev-parse", "--verify", name+"^{commit}")
	}
	commit, err := git(ctx, top, "merge-base", "HEAD", "main")
	if err != nil {
		commit, err = git(ctx, top, "merge-base", "HEAD", "origin/main")
	}
	if err != nil {
		return "", fmt.Errorf("no main to compare with, name a commit with -base: %w", err)
	}
	return commit, nil
}

// A side is one of the two that are compared.
type side struct {
	name, tree, bin, out string
	tests                map[string]string // test binaries, by package's directory
}

// testFiles has go list print a package's directory and its test files.
const testFiles = `{{.Dir}}{{range .TestGoFiles}} {{.}}{{end}}{{range .XTestGoFiles}} {{.}}{{end}}`

// build builds the tests of all packages that have benchmarks.
func (s *side) build(ctx context.Context, packages []string) error {
	s.tests = make(map[string]string)
	if err := os.MkdirAll(s.bin, 0o755); err != nil {
		return err
	}
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-f", testFiles}, packages...)...)
	list.Dir, list.Stderr = s.tree, os.Stderr
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("list the packages of %s: %w", s.name, err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		has, err := hasBenchmarks(f[0], f[1:])
		if err != nil {
			return err
		}
		if !has {
			continue
		}
		pkg, err := filepath.Rel(s.tree, f[0])
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "building the tests of %s, %s\n", pkg, s.name)
		path := filepath.Join(s.bin, strings.ReplaceAll(pkg, "/", "-")+".test")
		build := exec.CommandContext(ctx, "go", "test", "-c", "-o", path, ".")
		build.Dir, build.Stderr = f[0], os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build the tests of %s, %s: %w", pkg, s.name, err)
		}
		s.tests[pkg] = path
	}
	return nil
}

func hasBenchmarks(dir string, files []string) (bool, error) {
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return false, err
		}
		if strings.Contains(string(text), "\nfunc Benchmark") {
			return true, nil
		}
	}
	return false, nil
}

// alternate runs the benchmarks of each package count times on both sides, one after the other.
func alternate(ctx context.Context, sides []*side, count int, pattern, benchtime string) error {
	packages := make(map[string]bool)
	for _, s := range sides {
		for pkg := range s.tests {
			packages[pkg] = true
		}
	}
	for n := range count {
		for _, pkg := range slices.Sorted(maps.Keys(packages)) {
			for _, s := range sides {
				if err := s.run(ctx, pkg, pattern, benchtime); err != nil {
					return fmt.Errorf("benchmarks of %s, %s: %w", s.name, pkg, err)
				}
			}
		}
		slices.Reverse(sides) // who goes first changes
		fmt.Fprintf(os.Stderr, "%d of %d\n", n+1, count)
	}
	return nil
}

// run appends what the benchmarks of a package print, if the side has it.
func (s *side) run(ctx context.Context, pkg, pattern, benchtime string) (err error) {
	path := s.tests[pkg]
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(s.out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	cmd := exec.CommandContext(ctx, path, "-test.run=^$", "-test.bench="+pattern, "-test.benchmem", "-test.benchtime="+benchtime)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Join(s.tree, pkg), f, os.Stderr
	return cmd.Run()
}
