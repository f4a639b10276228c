package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// clearEnv hides the variables of whoever runs the tests.
func clearEnv(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "RAFTSMAN_") || strings.HasPrefix(name, "ETCDCTL_") {
			t.Setenv(name, "")
		}
	}
}

// settingsFor loads a node's settings as serve and config print do.
func settingsFor(t *testing.T, file string, args ...string) (*nodeFlags, origins, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raftsman.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	var (
		flags nodeFlags
		from  origins
	)
	cmd := &cobra.Command{Use: "test", SilenceErrors: true, SilenceUsage: true, RunE: func(cmd *cobra.Command, _ []string) (err error) {
		from, err = flags.load(cmd)
		return err
	}}
	flags.bind(cmd.Flags())
	cmd.SetArgs(append([]string{"--config", path}, args...))
	err := cmd.Execute()
	return &flags, from, err
}

func TestSettingsAreLayered(t *testing.T) {
	const file = "etcd_endpoints: [http://file:2379, http://file2:2379]\n"
	for _, tc := range []struct {
		name, flag, env, file, fallback string
		want, origin                    string
	}{
		{"flag wins", "http://flag:2379", "http://env:2379", file, "http://ctl:2379", "http://flag:2379", "flag --etcd-endpoints"},
		{"then environment", "", "http://env:2379", file, "http://ctl:2379", "http://env:2379", "environment RAFTSMAN_ETCD_ENDPOINTS"},
		{"then file", "", "", file, "http://ctl:2379", "http://file:2379 http://file2:2379", "file "},
		{"then etcdctl's", "", "", "", "http://ctl:2379", "http://ctl:2379", "environment ETCDCTL_ENDPOINTS"},
		{"then default", "", "", "", "", "http://127.0.0.1:2379", "default"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clearEnv(t)
			t.Setenv("RAFTSMAN_ETCD_ENDPOINTS", tc.env)
			t.Setenv("ETCDCTL_ENDPOINTS", tc.fallback)
			var args []string
			if tc.flag != "" {
				args = []string{"--etcd-endpoints", tc.flag}
			}
			flags, from, err := settingsFor(t, tc.file, args...)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(flags.cfg.Etcd.Endpoints, " "); got != tc.want {
				t.Errorf("endpoints %s, want %s", got, tc.want)
			}
			if got := from["etcd-endpoints"]; !strings.HasPrefix(got, tc.origin) {
				t.Errorf("origin %q, want %q", got, tc.origin)
			}
		})
	}
}

func TestParseListener(t *testing.T) {
	for _, tc := range []struct{ text, name, addr, advertise string }{
		{"out=0.0.0.0:9192", "out", "0.0.0.0:9192", ""},
		{"out=0.0.0.0:9192,advertise=host:1", "out", "0.0.0.0:9192", "host:1"},
		{"=0.0.0.0:9192", "", "", ""},
		{"0.0.0.0:9192", "", "", ""},
		{"out=0.0.0.0:9192,told=host:1", "", "", ""},
	} {
		l, err := parseListener(tc.text)
		if (err != nil) != (tc.name == "") {
			t.Errorf("%q: error %v", tc.text, err)
		}
		if err == nil && (l.Name != tc.name || l.Addr != tc.addr || l.Advertise != tc.advertise) {
			t.Errorf("%q: got %+v", tc.text, l)
		}
	}
}

func TestPasswordsAreMasked(t *testing.T) {
	for _, tc := range []struct{ name, value, want string }{
		{"etcd-user", "root:secret", "root:***"},
		{"etcd-user", "root:se:cret", "root:***"},
		{"etcd-user", "root", "root"},
		{"etcd-endpoints", "http://root:secret@10.0.0.1:2379", "http://root:***@10.0.0.1:2379"},
		{"etcd-endpoints", "http://root:s@cret@10.0.0.1:2379", "http://root:***@10.0.0.1:2379"},
		{"etcd-endpoints", "http://10.0.0.1:2379", "http://10.0.0.1:2379"},
		{"kafka-addr", "127.0.0.1:9092", "127.0.0.1:9092"},
	} {
		if got := masked(tc.name, tc.value); got != tc.want {
			t.Errorf("%s %s: got %s, want %s", tc.name, tc.value, got, tc.want)
		}
	}
}

func TestConfigPrint(t *testing.T) {
	for _, format := range outputFormats {
		clearEnv(t)
		t.Setenv("RAFTSMAN_ETCD_USER", "root:hunter2")
		t.Setenv("ETCDCTL_ENDPOINTS", "http://a:hunter2@h:1,http://b:hunter2@h:2")
		out, err := execute(t, "config", "print", "-o", format, "--rack", "r1")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out, "hunter2") {
			t.Errorf("%s shows a password:\n%s", format, out)
		}
		for _, want := range []string{"root:***", "environment RAFTSMAN_ETCD_USER", "flag --rack", "environment ETCDCTL_ENDPOINTS"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s has no %q:\n%s", format, want, out)
			}
		}
	}
}

// TestEtcdctlsVariables: they fill in what is missing and contradict nothing.
func TestEtcdctlsVariables(t *testing.T) {
	for _, tc := range []struct {
		name                      string
		env                       map[string]string
		args                      []string
		endpoints, srv, userAndPW string
	}{
		{"nothing", nil, nil, "http://127.0.0.1:2379", "", ""},
		{"domain", nil, []string{"--etcd-discovery-srv=example.com"}, "", "example.com", ""},
		{"domain beside etcdctl's endpoints", map[string]string{"ETCDCTL_ENDPOINTS": "http://a:1"}, []string{"--etcd-discovery-srv=example.com"}, "", "example.com", ""},
		{"endpoints beside etcdctl's domain", map[string]string{"ETCDCTL_DISCOVERY_SRV": "example.com"}, []string{"--etcd-endpoints=http://a:1"}, "http://a:1", "", ""},
		{"both of etcdctl's", map[string]string{"ETCDCTL_DISCOVERY_SRV": "example.com", "ETCDCTL_ENDPOINTS": "http://a:1"}, nil, "", "example.com", ""},
		{"both set", nil, []string{"--etcd-endpoints=http://a:1", "--etcd-discovery-srv=example.com"}, "http://a:1", "example.com", ""}, // refused by Validate
		{"password", map[string]string{"ETCDCTL_USER": "root", "ETCDCTL_PASSWORD": "pw"}, nil, "http://127.0.0.1:2379", "", "root:pw"},
		{"password in the user", map[string]string{"ETCDCTL_USER": "root:a", "ETCDCTL_PASSWORD": "b"}, nil, "http://127.0.0.1:2379", "", "root:a"},
		{"password without a user", map[string]string{"ETCDCTL_PASSWORD": "pw"}, nil, "http://127.0.0.1:2379", "", ""},
		{"password file", map[string]string{"ETCDCTL_USER": "root", "ETCDCTL_PASSWORD": "pw"}, []string{"--etcd-password-file=/f"}, "http://127.0.0.1:2379", "", "root"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clearEnv(t)
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			flags, _, err := settingsFor(t, "", tc.args...)
			if err != nil {
				t.Fatal(err)
			}
			e := flags.cfg.Etcd
			if got := strings.Join(e.Endpoints, " "); got != tc.endpoints || e.DiscoverySRV != tc.srv || e.User != tc.userAndPW {
				t.Errorf("endpoints %q, domain %q, user %q", got, e.DiscoverySRV, e.User)
			}
		})
	}
}
