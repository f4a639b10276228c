package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"
)

// startRaftsman starts an etcd and three nodes, with default settings but for -raftsman-flags.
func startRaftsman(ctx context.Context, cfg *config, ps *processes) (client, error) {
	ports, err := freePorts(2 + 3*3)
	if err != nil {
		return nil, err
	}
	etcd, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	if err := ps.spawn("etcd", "etcd", cfg.binary("etcd"), "--name", "e", "--data-dir", filepath.Join(ps.dir, "etcd"),
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--listen-client-urls", etcd,
		"--advertise-client-urls", etcd, "--initial-cluster", "e="+peer, "--logger", "zap", "--log-level", "error"); err != nil {
		return nil, err
	}
	var kafka []string
	for i := range 3 {
		p := ports[2+3*i:]
		kafka = append(kafka, fmt.Sprintf("127.0.0.1:%d", p[0]))
		name := fmt.Sprintf("node-%d", i+1)
		args := append([]string{cfg.binary("raftsman"), "serve", "--node-id", fmt.Sprint(i + 1),
			"--data-dir", filepath.Join(ps.dir, name), "--etcd-endpoints", etcd, "--kafka-addr", kafka[i],
			"--http-addr", fmt.Sprintf("127.0.0.1:%d", p[1]), "--peer-addr", fmt.Sprintf("127.0.0.1:%d", p[2])},
			cfg.raftsmanFlags...)
		if err := ps.spawn("node", name, args...); err != nil {
			return nil, err
		}
		ps.all[len(ps.all)-1].metrics = fmt.Sprintf("http://127.0.0.1:%d/metrics", p[1])
	}
	k, err := newKafkaClient(kafka, 1)
	if err != nil {
		return nil, err
	}
	err = ps.until(ctx, "three raftsman nodes", time.Minute, func(ctx context.Context) error {
		for i := range 3 {
			if err := answers(ctx, fmt.Sprintf("http://127.0.0.1:%d/readyz", ports[3+3*i])); err != nil {
				return err
			}
		}
		m, err := k.adm.BrokerMetadata(ctx)
		if err == nil && len(m.Brokers) != 3 {
			err = fmt.Errorf("%d brokers", len(m.Brokers))
		}
		return err
	})
	if err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

// answers says whether a GET is answered with 200.
func answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

func raftsmanVersion(ctx context.Context, cfg *config) (string, error) {
	return output(ctx, cfg.binary("raftsman"), "version")
}
