//go:build system

package system

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// authority signs certificates of a test.
type authority struct {
	t    *testing.T
	dir  string
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), next: 1}
	a.file, _ = a.issue(name, time.Hour)
	return a
}

// issue writes a certificate and its key, valid for a time from an hour ago. The
// first one is the authority's own.
func (a *authority) issue(name string, left time.Duration) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(left),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	a.next++
	parent, signer := a.cert, a.key
	if parent == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		parent, signer = c, key
		a.cert, a.key = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	write := func(suffix, kind string, der []byte) string {
		file := filepath.Join(a.dir, name+suffix)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return file
	}
	return write(".pem", "CERTIFICATE", der), write("-key.pem", "EC PRIVATE KEY", private)
}

// addWrong starts one more node whose way to etcd is wrong, and waits for its word
// about it.
func (x *trouble) addWrong(want []string, flags ...string) {
	x.t.Helper()
	n := len(x.nodes)
	if err := os.Remove(filepath.Join(x.dir, fmt.Sprintf("node-%d.log", n+1))); err != nil && !os.IsNotExist(err) {
		x.t.Fatal(err)
	}
	id := x.addNode(flags...)
	p := x.node(id)
	waitFor(x.t, fmt.Sprintf("node %d to say %q", id, want), 30*time.Second, func() bool {
		return !slices.ContainsFunc(want, func(s string) bool { return !strings.Contains(p.logs(), s) })
	})
	for line := range strings.SplitSeq(p.logs(), "\n") {
		if strings.Contains(line, want[0]) {
			x.t.Log(line)
		}
	}
	p.cleanUp()
	x.nodes, x.kafka, x.http = x.nodes[:n], x.kafka[:n], x.http[:n]
}

// TestEtcdTLS runs with an etcd that wants certificates of its clients.
func TestEtcdTLS(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other-ca")
	serverCert, serverKey := ca.issue("server", time.Hour)
	cert, key := ca.issue("node", time.Hour)
	t.Setenv("ETCDCTL_CACERT", ca.file)
	t.Setenv("ETCDCTL_CERT", cert)
	t.Setenv("ETCDCTL_KEY", key)
	x := newTrouble(t, startPlain(t, 3, plainEtcd{
		scheme: "https",
		etcd:   []string{"--cert-file", serverCert, "--key-file", serverKey, "--client-cert-auth", "--trusted-ca-file", ca.file},
		node: func(string) []string {
			return []string{"--etcd-cacert", ca.file, "--etcd-cert", cert, "--etcd-key", key}
		},
	}))
	x.serves()
	expired, expiredKey := ca.issue("expired", -time.Minute)
	stranger, strangerKey := other.issue("stranger", time.Hour)
	x.addWrong([]string{"has expired", expired}, "--etcd-cert", expired, "--etcd-key", expiredKey)
	x.addWrong([]string{"TLS with etcd failed", "remote error"}, "--etcd-cert", stranger, "--etcd-key", strangerKey)
	x.addWrong([]string{"TLS with etcd failed", "certificate signed by unknown authority"}, "--etcd-cacert", other.file)

	// etcd's own certificate runs out.
	x.begin()
	etcd := x.etcds[0]
	etcd.kill()
	oldCert, oldKey := ca.issue("old-server", -time.Minute)
	good := etcd.args
	etcd.args = slices.Clone(good)
	etcd.args[slices.Index(etcd.args, serverCert)], etcd.args[slices.Index(etcd.args, serverKey)] = oldCert, oldKey
	etcd.start()
	x.hasLogged("TLS with etcd failed")
	x.endures(3 * x.ttl)
	x.changes(1, "meanwhile")
	etcd.kill()
	etcd.args = good
	etcd.start()
	x.mended("after")
	x.once("TLS with etcd failed", "has expired")
	x.quiet(8)
	x.finish()
}

// TestEtcdUsers runs with a user that has the least role, with tokens that expire
// all the time, and then takes rights away.
func TestEtcdUsers(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctl := &cluster{t: t}
	x := newTrouble(t, startPlain(t, 3, plainEtcd{
		etcd: []string{"--auth-token-ttl", "1"},
		ready: func(url string) {
			ctl.etcdURL = []string{url}
			waitFor(t, "etcd", 30*time.Second, func() bool { return strings.Contains(ctl.tryEtcdctl("", "endpoint", "health"), "is healthy") })
			for _, args := range [][]string{ // as in docs/operations/etcd.md
				{"user", "add", "root:topsecret"},
				{"user", "grant-role", "root", "root"},
				{"role", "add", "raftsman"},
				{"role", "grant-permission", "raftsman", "--prefix=true", "readwrite", "/raftsman/default/"},
				{"user", "add", "raftsman:secret"},
				{"user", "grant-role", "raftsman", "raftsman"},
				{"auth", "enable"},
			} {
				ctl.etcdctl(args...)
			}
			t.Setenv("ETCDCTL_USER", "root:topsecret")
		},
		node: func(string) []string { return []string{"--etcd-user", "raftsman", "--etcd-password-file", password} },
	}))
	x.endures(3 * x.ttl) // many lives of a token
	x.mended("first")
	x.etcdctl("lease", "revoke", leaseOf(t, x.etcdctl("get", "/raftsman/default/nodes/2", "-w", "fields")))
	x.endures(x.ttl)
	x.quiet(6)

	out, _ := x.raftsman("cluster", "restore-metadata", "--dry-run", "--http", x.http[0], "--etcd-user", "raftsman", "--etcd-password-file", password)
	if !strings.Contains(out, "there is nothing to restore") {
		t.Errorf("restore-metadata with the nodes' user: %s", out)
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	x.addWrong([]string{"authentication failed, invalid user ID or password"}, "--etcd-password-file", wrong)

	// Without rights on the topics, and on nothing at all.
	grant := func(verb string, args ...string) {
		x.etcdctl(append([]string{"role", verb + "-permission", "raftsman"}, args...)...)
	}
	x.begin()
	grant("grant", "--prefix=true", "read", "/raftsman/default/")
	for _, dir := range []string{"leader/", "nodes/", "status/", "assignments/"} {
		grant("grant", "--prefix=true", "readwrite", "/raftsman/default/"+dir)
	}
	message, code := x.tryCreate(1, "denied")
	if !retriable(code) || !strings.Contains(message, "/raftsman/default/topics/denied") || !strings.Contains(message, "role grant-permission") {
		t.Errorf("a topic without the right: %v %s", code, message)
	}
	t.Logf("without the right: %v %s", code, message)
	x.serves()
	for _, dir := range []string{"leader/", "nodes/", "status/", "assignments/", ""} {
		grant("revoke", "--prefix=true", "/raftsman/default/"+dir)
	}
	x.hasLogged("permission denied")
	x.endures(4 * x.ttl)
	x.changes(2, "meanwhile")
	grant("grant", "--prefix=true", "readwrite", "/raftsman/default/")
	x.mended("after")
	for _, said := range x.quiet(8) {
		if !strings.Contains(said, "role grant-permission") {
			t.Error("a node does not say what to do")
		}
	}

	// All nodes start while etcd is away, user and all.
	x.etcds[0].kill()
	x.node(1).kill()
	x.node(1).start()
	x.waitReady(1)
	x.serves()
	x.etcds[0].start()
	x.mended("last")
	x.finish()
}
