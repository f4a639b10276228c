package discovery

import (
	"errors"
	"strings"
	"testing"
)

func TestMessageRoundTrip(t *testing.T) {
	m := Message{Cluster: "default", From: NewID(), Seq: 7, State: Member, Grant: NewID(), Echo: 3, Best: NewID(), ClusterID: "c1", HTTP: "10.0.0.1:8080"}
	for _, secret := range []string{"", "swordfish"} {
		data, err := encode(m, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(data, []byte(secret))
		if err != nil || got != m {
			t.Errorf("secret %q: got %+v, %v", secret, got, err)
		}
		if _, err := decode(data, []byte("another")); !errors.Is(err, errMistrusted) {
			t.Errorf("secret %q read with another: %v", secret, err)
		}
		data[len(data)-3] ^= 1
		if got, err := decode(data, []byte("swordfish")); err == nil {
			t.Errorf("secret %q: a changed message was taken: %+v", secret, got)
		}
	}
}

func TestMessagesThatAreDropped(t *testing.T) {
	id := string(NewID())
	for _, body := range []string{
		``, `{`, `null`, `[]`, `{}`,
		`{"cluster":"c","seq":1,"state":"asking"}`,
		`{"cluster":"c","from":"` + id + `","state":"asking"}`,
		`{"cluster":"","from":"` + id + `","seq":1,"state":"asking"}`,
		`{"cluster":"c","from":"` + strings.ToUpper(id[:31]) + `F","seq":1,"state":"asking"}`,
		`{"cluster":"c","from":"` + id + `","seq":1,"state":"king"}`,
		`{"cluster":"c","from":"` + id + `","seq":1,"state":"claiming","grant":"x"}`,
		`{"cluster":"c","from":"` + id + `","seq":1,"state":"member","cluster_id":"x"}`,
		`{"cluster":"c","from":"` + id + `","seq":1,"state":"member","cluster_id":"x","http":":80"}`,
		`{"cluster":"c","from":"` + id + `","seq":1,"state":"asking"} {}`,
		`{"cluster":"c","from":"` + id + `","seq":1,"state":"asking","best":"` + strings.Repeat("x", maxDatagram) + `"}`,
	} {
		data := append(append([]byte(magic), make([]byte, 32)...), body...)
		if m, err := decode(data, nil); err == nil {
			t.Errorf("%s: taken as %+v", body, m)
		}
	}
	for _, data := range []string{"", "RMD1", "GET / HTTP/1.1\r\n\r\n"} {
		if _, err := decode([]byte(data), nil); err == nil {
			t.Errorf("%q was taken", data)
		}
	}
	if _, err := encode(Message{Cluster: strings.Repeat("x", maxDatagram)}, nil); err == nil {
		t.Error("a message larger than a datagram was made")
	}
}

func FuzzDecode(f *testing.F) {
	data, err := encode(Message{Cluster: "default", From: NewID(), Seq: 1, State: Standing, Grant: NewID()}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	signed, err := encode(Message{Cluster: "default", From: NewID(), Seq: 9, State: Member, ClusterID: "x", HTTP: "[::1]:80"}, []byte("s"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decode(data, nil)
		if err != nil {
			return
		}
		again, err := encode(m, nil)
		if err != nil {
			return // escapes can make it longer than it came
		}
		if back, err := decode(again, nil); err != nil || back != m {
			t.Fatalf("%+v came back as %+v, %v", m, back, err)
		}
	})
}

func FuzzCluster(f *testing.F) {
	f.Add([]byte(`{"cluster":"default","cluster_id":"c1","etcd":["http://10.0.0.1:2379"],"own_etcd":true,"nodes":[{"node":1,"http":"10.0.0.1:8080","state":"ready"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := parseCluster(body)
		if err == nil && (c.Cluster == "" || c.ClusterID == "" || len(c.Etcd) == 0 || len(c.Etcd) > maxEndpoints) {
			t.Fatalf("taken: %+v", c)
		}
	})
}
