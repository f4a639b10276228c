package main

import "testing"

func TestRedact(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"etcd-user: root:hunter2", "etcd-user: root:***"},
		{"RAFTSMAN_ETCD_USER=root:hunter2", "RAFTSMAN_ETCD_USER=root:***"},
		{`"ETCDCTL_USER=root:hunter2",`, `"ETCDCTL_USER=root:***",`},
		{"serve --etcd-user root:hunter2 --rack a", "serve --etcd-user root:*** --rack a"},
		{"etcd-user: root", "etcd-user: root"},
		{"etcd-password-file: /etc/raftsman/password", "etcd-password-file: /etc/raftsman/password"},
		{"cluster-secret-file: /etc/raftsman/secret", "cluster-secret-file: /etc/raftsman/secret"},
		{"ETCDCTL_PASSWORD=hunter2", "ETCDCTL_PASSWORD=***"},
		{`password: "hunter 2" # mine`, `password: "***" # mine`},
		{`{"token":"abc\"def","x":1}`, `{"token":"***","x":1}`},
		{"secret = 'a b'", "secret = '***'"},
		{"http://root:hunter2@10.0.0.1:2379", "http://root:***@10.0.0.1:2379"},
		{"http://10.0.0.1:2379,http://10.0.0.2:2379", "http://10.0.0.1:2379,http://10.0.0.2:2379"},
		{"Authorization: Bearer abc.def", "Authorization: Bearer ***"},
		{"-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----\nx", "-----BEGIN EC PRIVATE KEY-----\n***\n-----END EC PRIVATE KEY-----\nx"},
		{"-----BEGIN PRIVATE KEY-----\nabc", "-----BEGIN PRIVATE KEY-----\n***\n"},
		{"nothing to hide: 10.0.0.1:8080", "nothing to hide: 10.0.0.1:8080"},
	} {
		if got := string(redact([]byte(tc.text))); got != tc.want {
			t.Errorf("of %q: got %q, want %q", tc.text, got, tc.want)
		}
	}
}
