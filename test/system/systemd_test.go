//go:build system

package system

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const vmPartitions = 6

// vmSettings are those of docs/operations/systemd.md for three machines.
const vmSettings = `data-dir: /var/lib/raftsman
etcd-endpoints: [http://vm1:2379, http://vm2:2379, http://vm3:2379]
kafka-addr: 0.0.0.0:9092
kafka-advertise: auto
peer-addr: 0.0.0.0:7070
peer-advertise: auto
http-addr: 0.0.0.0:8080
http-advertise: auto
leader-return-delay: 3s
session-ttl: 4s
`

// TestSystemd has three machines that systemd runs on. The package is installed on
// each, with three etcd of the example unit: the cluster forms, and through restarts
// of all nodes no client sees an error. A second node on one host, a reload, a hung
// process, an upgrade, a removal and a purge do what docs/operations/systemd.md says.
func TestSystemd(t *testing.T) {
	t.Parallel()
	began := time.Now()
	done := func(what string) { t.Logf("%s after %v", what, time.Since(began).Round(time.Second)) }
	deb := release(t)
	done("released")
	vms := startVMs(t, 3)
	for _, v := range vms {
		v.install(deb)
		v.copy(binary(t, "etcd"), "/usr/local/bin/etcd")
		v.run("sh", "-ec", `cd /usr/share/doc/raftsman/examples && cp etcd.service /etc/systemd/system/
			sed '/^ETCD_INITIAL_CLUSTER=/!s/vm1/'"$(hostname)"'/' etcd.default >/etc/default/etcd
			systemctl daemon-reload && systemctl enable --now --no-block etcd`)
		v.write("/etc/raftsman/raftsman.yaml", vmSettings)
	}
	var brokers []string
	for _, v := range vms {
		v.run("systemctl", "enable", "--now", "raftsman") // returns when it serves
		v.run("raftsman", "healthcheck")
		brokers = append(brokers, v.ip+":9092")
	}
	done("three nodes serve")
	checkUnits(t, vms[0])
	secondNode(t, vms[0])

	vms[0].run("raftsman", "topic", "create", "rolling", "--partitions", strconv.Itoa(vmPartitions))
	loads := startLoads(t, brokers, "rolling", vmPartitions, kgo.ConnIdleTimeout(2*time.Second))
	acked := func(what string) {
		t.Helper()
		since := time.Now()
		waitFor(t, "acknowledgements "+what, 30*time.Second, func() bool {
			return each(loads, func(l *load) bool { return l.ackedSince(since) > 100 })
		})
	}
	acked("at the start")
	for _, v := range vms {
		v.waitSpread(t, vms)
		at := time.Now()
		v.run("systemctl", "restart", "raftsman")
		t.Logf("systemctl restart raftsman on %s took %v; longest time without an acknowledgement %v", v.name, time.Since(at).Round(time.Millisecond), longest(loads, at).Round(time.Millisecond))
		acked("after the restart of " + v.name)
		for _, l := range loads {
			if err := l.failure(); err != nil {
				t.Fatalf("partition %d: a client saw an error: %v", l.partition, err)
			}
		}
		tells(t, v, "leaderships handed over", "Stopped raftsman", "Started raftsman")
	}
	done("restarted all")
	reload(t, vms[0])
	hang(t, vms[1])
	acked("after the watchdog has done its work")
	done("hung and healed")
	finishAll(t, loads...)
	for _, l := range loads {
		l.verify(t, brokers)
	}
	removal(t, vms[2], deb)
}

// release makes a release of bin/raftsman, checks it, and makes its Debian package once
// more: both are the same.
func release(t *testing.T) (deb string) {
	t.Helper()
	root := filepath.Join("..", "..")
	one := func() []byte {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(root, "dist", "raftsman_*.deb"))
		if err != nil || len(found) != 1 {
			t.Fatalf("packages: %v %v", found, err)
		}
		b, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	build := []string{"env", "SNAPSHOT=1", "PACKAGE_VERSION=0.0.0-test", "ARCHS=" + runtime.GOARCH, "PREBUILT=" + binary(t, "raftsman")}
	mustRun(t, 5*time.Minute, append(build, filepath.Join(root, "deploy", "release.sh"))...)
	first := one()
	mustRun(t, time.Minute, "sh", "-ec", `cd ../../dist
		sha256sum --quiet -c SHA256SUMS
		[ "$(wc -l <SHA256SUMS)" = 4 ] # .deb, .rpm, .tar.gz and .cdx.json
		grep -q '"pkg:golang/github.com/hashicorp/raft@' *.cdx.json
		tar -tzf raftsman-*.tar.gz | grep -q /systemd/raftsman.service`)
	rpms, err := filepath.Glob(filepath.Join(root, "dist", "raftsman-*.rpm"))
	if err != nil || len(rpms) != 1 {
		t.Fatalf("packages: %v %v", rpms, err)
	}
	files := mustRun(t, time.Minute, "rpm", "-qp", "--nosignature", "--qf", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]", rpms[0])
	for _, want := range []string{"/usr/bin/raftsman ", "/etc/raftsman/raftsman.yaml cn", "/usr/lib/systemd/system/raftsman@.service "} {
		if !strings.Contains(files+"\n", want) {
			t.Errorf("the .rpm has no %q:\n%s", want, files)
		}
	}
	mustRun(t, 5*time.Minute, append(build, "FORMATS=deb", filepath.Join(root, "deploy", "packages", "build.sh"))...)
	if !bytes.Equal(first, one()) {
		t.Error("the same sources and program gave two different packages")
	}
	deb = filepath.Join(t.TempDir(), "raftsman.deb")
	if err := os.WriteFile(deb, first, 0o644); err != nil {
		t.Fatal(err)
	}
	return deb
}

// install installs the package: nothing runs yet, and what belongs to it is there.
func (v *vm) install(deb string) {
	v.t.Helper()
	v.copy(deb, "/root/raftsman.deb")
	v.run("dpkg", "--force-confold", "-i", "/root/raftsman.deb")
	if state, _ := v.try("systemctl", "is-active", "raftsman"); state != "inactive" {
		v.t.Errorf("%s: the node is %s after the installation", v.name, state)
	}
	v.run("sh", "-ec", `getent passwd raftsman
		gzip -dc /usr/share/man/man1/raftsman-serve.1.gz | grep -q etcd-endpoints
		bash -n /usr/share/bash-completion/completions/raftsman
		[ "$(stat -c '%a %U' /var/lib/raftsman)" = "750 raftsman" ]
		raftsman config print | grep -q 'data-dir.*file /etc/raftsman/raftsman.yaml'
		cd /usr/share/man/man1 && [ "$(ls raftsman*.gz | wc -l)" -gt 40 ]`)
}

// checkUnits: what systemd thinks of the units.
func checkUnits(t *testing.T, v *vm) {
	t.Helper()
	v.run("systemd-analyze", "verify", "--man=no", "raftsman.service", "raftsman@2.service", "etcd.service")
	for _, unit := range []string{"raftsman.service", "raftsman@2.service"} {
		out := v.run("systemd-analyze", "security", "--no-pager", unit)
		m := regexp.MustCompile(`Overall exposure level for .*: ([0-9.]+)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("systemd-analyze security: %s", out)
		}
		if level, err := strconv.ParseFloat(m[1], 64); err != nil || level > 1.5 {
			t.Errorf("exposure of %s is %s, want at most 1.5\n%s", unit, m[1], out)
		}
	}
	if status := v.show("raftsman", "StatusText"); !strings.HasPrefix(status, "node ") {
		t.Errorf("systemctl status says %q", status)
	}
	resp, err := http.Get("http://" + v.ip + ":8080/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if page, err := io.ReadAll(resp.Body); err != nil || !bytes.Contains(page, []byte("process_cpu_seconds_total ")) {
		t.Errorf("in its sandbox the node can't see what it uses: %v", err)
	}
	owner := v.run("sh", "-c", "stat -c '%U' /proc/$(systemctl show --value -p MainPID raftsman)")
	if owner != "raftsman" {
		t.Errorf("the node runs as %s", owner)
	}
}

// secondNode runs another node on a host, as raftsman@b.
func secondNode(t *testing.T, v *vm) {
	t.Helper()
	settings := strings.NewReplacer("/var/lib/raftsman", "/var/lib/raftsman-b", "0.0.0.0:9092", "0.0.0.0:9192", ":7070", ":7170", ":8080", ":8180").Replace(vmSettings)
	v.write("/etc/raftsman/b.yaml", settings)
	v.run("systemctl", "start", "raftsman@b")
	v.run("raftsman", "healthcheck", "--http", "127.0.0.1:8180")
	v.run("raftsman", "healthcheck")
	v.run("systemctl", "stop", "raftsman@b")
	if result := v.show("raftsman@b", "Result"); result != "success" {
		t.Errorf("raftsman@b ended with %s", result)
	}
}

// waitSpread waits until each node leads its part.
func (v *vm) waitSpread(t *testing.T, vms []*vm) {
	t.Helper()
	waitFor(t, "leaderships on all nodes", time.Minute, func() bool {
		leads := make(map[int]int)
		out, err := v.try("raftsman", "topic", "describe", "rolling", "-o", "json")
		for i := range vmPartitions {
			leads[leaderIn(out, i)]++
		}
		return err == nil && leads[0] == 0 && len(leads) == len(vms)
	})
}

// tells looks for texts in the journal of raftsman, in this order from the end.
func tells(t *testing.T, v *vm, texts ...string) {
	t.Helper()
	journal := v.journal("raftsman")
	rest := journal
	if at := strings.LastIndex(journal, texts[0]); at >= 0 {
		rest = journal[at:]
	}
	for _, text := range texts {
		at := strings.Index(rest, text)
		if at < 0 {
			t.Fatalf("%s: the journal does not say %q:\n%s", v.name, text, journal)
		}
		rest = rest[at:]
	}
}

// reload changes the log level of a node that runs.
func reload(t *testing.T, v *vm) {
	t.Helper()
	pid := v.show("raftsman", "MainPID")
	v.write("/etc/raftsman/raftsman.yaml", vmSettings+"log-level: debug\nrack: b\n")
	v.run("systemctl", "reload", "raftsman")
	waitFor(t, "the reload", 20*time.Second, func() bool {
		return strings.Contains(v.journal("raftsman"), "read the settings again") && v.show("raftsman", "ActiveState") == "active"
	})
	tells(t, v, `msg="read the settings again" log_level=debug`, "settings=[rack]")
	if now := v.show("raftsman", "MainPID"); now != pid {
		t.Errorf("a reload made process %s out of %s", now, pid)
	}
}

// hang stops the process as a whole: systemd misses its signs of life, ends it and
// starts it again.
func hang(t *testing.T, v *vm) {
	t.Helper()
	v.run("mkdir", "-p", "/etc/systemd/system/raftsman.service.d")
	v.write("/etc/systemd/system/raftsman.service.d/watchdog.conf", "[Service]\nWatchdogSec=5s\n")
	v.run("systemctl", "daemon-reload")
	v.run("systemctl", "restart", "raftsman") // the process learns of it when it starts
	pid, restarts := v.show("raftsman", "MainPID"), v.show("raftsman", "NRestarts")
	v.run("kill", "-STOP", pid)
	waitFor(t, "another process that serves", time.Minute, func() bool {
		return v.show("raftsman", "MainPID") != pid && v.show("raftsman", "ActiveState") == "active"
	})
	t.Logf("%s: restarts before and after the hang: %s, %s", v.name, restarts, v.show("raftsman", "NRestarts"))
	tells(t, v, "Watchdog timeout", "Failed with result 'watchdog'", "Started raftsman")
}

// removal upgrades, removes and purges the package: records and settings stay as
// Debian's users expect.
func removal(t *testing.T, v *vm, deb string) {
	t.Helper()
	pid := v.show("raftsman", "MainPID")
	if out := v.run("dpkg", "--force-confold", "-i", "/root/raftsman.deb"); !strings.Contains(out, "systemctl restart raftsman.service") {
		t.Errorf("an upgrade does not say what to do:\n%s", out)
	}
	if now := v.show("raftsman", "MainPID"); now != pid {
		t.Errorf("an upgrade restarted the node")
	}
	settings := v.run("cat", "/etc/raftsman/raftsman.yaml")
	if settings+"\n" != vmSettings {
		t.Errorf("an upgrade changed the settings:\n%s", settings)
	}
	v.run("dpkg", "-r", "raftsman")
	if state, _ := v.try("systemctl", "is-active", "raftsman"); state != "inactive" {
		t.Errorf("after the removal the node is %s", state)
	}
	v.run("sh", "-ec", "[ ! -e /usr/bin/raftsman ] && [ -s /etc/raftsman/raftsman.yaml ] && [ -s /var/lib/raftsman/identity.json ]")
	tells(t, v, "leaderships handed over", "Stopped raftsman")

	v.install(deb) // with the settings of before
	v.run("systemctl", "start", "raftsman")
	v.run("raftsman", "healthcheck")
	out := v.run("dpkg", "-P", "raftsman")
	if !strings.Contains(out, "/var/lib/raftsman holds a node's records and stays") {
		t.Errorf("a purge does not say that data stays:\n%s", out)
	}
	v.run("sh", "-ec", "[ ! -e /etc/raftsman ] && [ -s /var/lib/raftsman/identity.json ]")
}
