package node

import (
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreValid(t *testing.T) {
	c := Config{DataDir: "d"}
	c.setDefaults()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
}

// TestValidateNamesTheFlag: each wrong value is reported with its flag.
func TestValidateNamesTheFlag(t *testing.T) {
	for flag, spoil := range map[string]func(*Config){
		"--data-dir":                   func(c *Config) { c.DataDir = "" },
		"--node-id":                    func(c *Config) { c.NodeID = -1 },
		"--cluster":                    func(c *Config) { c.Cluster = "a/b" },
		"--etcd-prefix":                func(c *Config) { c.Etcd.Prefix = "raftsman/" },
		"--etcd-key":                   func(c *Config) { c.Etcd.Cert = "x" },
		"--etcd-cacert":                func(c *Config) { c.Etcd.CACert = "/nowhere/ca.pem" },
		"--kafka-addr":                 func(c *Config) { c.Listeners[0].Addr = "9092" },
		"--kafka-listener":             func(c *Config) { c.Listeners = append(c.Listeners, c.Listeners[0]) },
		"--kafka-advertise":            func(c *Config) { c.Listeners[0].Advertise = ":9092" },
		"--http-addr":                  func(c *Config) { c.HTTPAddr = "localhost" },
		"--peer-advertise":             func(c *Config) { c.PeerAdvertise = "here" },
		"--session-ttl":                func(c *Config) { c.SessionTTL = time.Second },
		"--raft-store":                 func(c *Config) { c.RaftStore = "rocks" },
		"--wal-file-size":              func(c *Config) { c.WAL.FileSize = 1 },
		"--wal-size-limit":             func(c *Config) { c.WAL.SizeLimit = 1 },
		"--segment-bytes":              func(c *Config) { c.SegmentBytes = 1 },
		"--catchup-rate":               func(c *Config) { c.CatchUpRate = 1000 },
		"--catchup-concurrency":        func(c *Config) { c.CatchUpConcurrency = 65 },
		"--default-partitions":         func(c *Config) { c.DefaultPartitions = -1 },
		"--default-replication-factor": func(c *Config) { c.DefaultReplicationFactor = -1 },
		"--message-max-bytes":          func(c *Config) { c.MessageMaxBytes = 1 << 30 },
		"--kafka-max-request-memory":   func(c *Config) { c.KafkaMaxRequestMemory = -1 },
		"--kafka-max-response-memory":  func(c *Config) { c.KafkaMaxResponseMemory = 10 },
		"--leader-lease":               func(c *Config) { c.LeaderLease = time.Hour },
	} {
		c := Config{DataDir: "d"}
		c.setDefaults()
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: got %v", flag, err)
		}
	}
}

// TestValidateShowsNoPassword: not even in the error that refuses it.
func TestValidateShowsNoPassword(t *testing.T) {
	for _, endpoint := range []string{"http://root:hunter2@10.0.0.1:2379", "http://root:hun@ter2@[::1", "ftp://root:hunter2@h:1"} {
		c := Config{DataDir: "d", Etcd: Etcd{Endpoints: []string{endpoint}}}
		err := c.Validate()
		if err == nil || strings.Contains(err.Error(), "ter2") || !strings.Contains(err.Error(), "--etcd-endpoints") {
			t.Errorf("%s: got %v", endpoint, err)
		}
	}
}

// TestAdvertisedAddresses: clients must be able to connect to what they are told.
func TestAdvertisedAddresses(t *testing.T) {
	for advertise, ok := range map[string]bool{
		"": true, "auto": true, "host:9092": true, "10.0.0.1:0": true, "[::1]:9092": true,
		"host": false, ":9092": false, "0.0.0.0:9092": false, "[::]:9092": false, "host:x": false,
	} {
		c := Config{DataDir: "d", Listeners: []KafkaListener{{Name: DefaultListener, Addr: "0.0.0.0:9092", Advertise: advertise}}}
		if err := c.Validate(); (err == nil) != ok {
			t.Errorf("%q: got %v", advertise, err)
		}
	}
}
