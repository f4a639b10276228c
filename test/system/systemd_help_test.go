//go:build system

package system

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	vmImage   = "raftsman-test-systemd:dev"
	vmNetwork = "raftsman-test-systemd"
)

// vmCaps let systemd run without --privileged, which some hosts can't give.
var vmCaps = []string{"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_NICE", "SYS_BOOT", "IPC_LOCK", "DAC_READ_SEARCH", "SYSLOG", "LINUX_IMMUTABLE", "SYS_TTY_CONFIG", "LEASE", "AUDIT_CONTROL"}

// vm is a container in which systemd runs, as on a virtual machine of Debian.
type vm struct {
	t        *testing.T
	name, ip string
}

// startVMs makes the image, and starts vm1, vm2, …
func startVMs(t *testing.T, n int) (vms []*vm) {
	t.Helper()
	mustRun(t, 5*time.Minute, "./systemd-image.sh")
	remove := func() {
		for i := range n {
			_, _ = tryRun(30*time.Second, "docker", "rm", "-f", "-v", fmt.Sprintf("%s-vm%d", vmNetwork, i+1))
		}
		_, _ = tryRun(30*time.Second, "docker", "network", "rm", vmNetwork)
	}
	remove() // of a run that was killed
	t.Cleanup(remove)
	mustRun(t, 30*time.Second, "docker", "network", "create", vmNetwork)
	for i := range n {
		v := &vm{t: t, name: fmt.Sprintf("vm%d", i+1)}
		args := []string{"docker", "run", "-d", "--name", vmNetwork + "-" + v.name, "--hostname", v.name, "--network", vmNetwork, "--network-alias", v.name,
			"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
			"--cgroupns", "private", "--tmpfs", "/sys/fs/cgroup", "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec"}
		for _, c := range vmCaps {
			args = append(args, "--cap-add", c)
		}
		mustRun(t, time.Minute, append(args, vmImage)...)
		v.ip = mustRun(t, 10*time.Second, "docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", vmNetwork+"-"+v.name)
		vms = append(vms, v)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, v := range vms {
			out, _ := v.try("journalctl", "--no-pager", "-o", "short-monotonic", "-n", "80", "-u", "raftsman*", "-u", "etcd")
			t.Logf("journal of %s:\n%.12000s", v.name, out)
		}
	})
	for _, v := range vms {
		waitFor(t, v.name+" to boot", time.Minute, func() bool {
			state, _ := v.try("systemctl", "is-system-running")
			return state == "running" || state == "degraded"
		})
	}
	return vms
}

func (v *vm) try(args ...string) (string, error) {
	return tryRun(2*time.Minute, append([]string{"docker", "exec", vmNetwork + "-" + v.name}, args...)...)
}

func (v *vm) run(args ...string) string {
	v.t.Helper()
	out, err := v.try(args...)
	if err != nil {
		v.t.Fatalf("%s: %v", v.name, err)
	}
	return out
}

// copy copies a file of this host.
func (v *vm) copy(from, to string) {
	v.t.Helper()
	mustRun(v.t, time.Minute, "docker", "cp", from, vmNetwork+"-"+v.name+":"+to)
}

// write writes a file.
func (v *vm) write(to, text string) {
	v.t.Helper()
	from := filepath.Join(v.t.TempDir(), filepath.Base(to))
	if err := os.WriteFile(from, []byte(text), 0o644); err != nil {
		v.t.Fatal(err)
	}
	v.copy(from, to)
}

// show is a property of a unit.
func (v *vm) show(unit, property string) string {
	v.t.Helper()
	return v.run("systemctl", "show", "--value", "-p", property, unit)
}

// journal is what a unit and systemd said about it.
func (v *vm) journal(unit string) string {
	v.t.Helper()
	return v.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)
}

func mustRun(t *testing.T, limit time.Duration, args ...string) string {
	t.Helper()
	out, err := tryRun(limit, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tryRun runs a program and returns what it printed, without white space around it.
func tryRun(limit time.Duration, args ...string) (string, error) {
	// Not the test's context: that one has ended when the test cleans up.
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%v: %w\n%s%s", args, err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String()), err
}
