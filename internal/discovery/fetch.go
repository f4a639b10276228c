package discovery

import (
	"context"
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Headers of a request and an answer that are signed.
const (
	HeaderNonce     = "Raftsman-Nonce"
	HeaderSignature = "Raftsman-Signature"
)

const (
	fetchTimeout = 5 * time.Second
	maxCluster   = 16 << 20 // bytes of /cluster.json
	maxEndpoints = 100
	maxNonce     = 64
)

// Cluster is what a node's /cluster.json tells to one who wants to join.
type Cluster struct {
	Cluster   string   `json:"cluster"`
	ClusterID string   `json:"cluster_id"`
	Etcd      []string `json:"etcd"`
	OwnEtcd   bool     `json:"own_etcd"` // the nodes run it
	Nodes     []struct {
		Node  int32  `json:"node"`
		Kafka string `json:"kafka"`
		HTTP  string `json:"http"`
		Peer  string `json:"peer"`
		State string `json:"state"`
	} `json:"nodes"`
}

// Sign is the signature of an answer's body, for the value of HeaderNonce; "" when
// there is nothing to sign.
func Sign(secret []byte, nonce string, body []byte) string {
	if len(secret) == 0 || nonce == "" || len(nonce) > maxNonce {
		return ""
	}
	return hex.EncodeToString(sign(secret, []byte(nonce), []byte{0}, body))
}

// Fetch asks a node for its cluster.
func Fetch(ctx context.Context, addr string, secret []byte) (c Cluster, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	where := "http://" + addr + "/cluster.json"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, http.NoBody)
	if err != nil {
		return c, err
	}
	nonce := string(NewID())
	req.Header.Set(HeaderNonce, nonce)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("a node does not redirect")
	}}
	resp, err := client.Do(req)
	if err != nil {
		return c, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxCluster+1))
	switch {
	case err != nil:
		return c, fmt.Errorf("read %s: %w", where, err)
	case resp.StatusCode != http.StatusOK:
		return c, fmt.Errorf("%s answered %s", where, resp.Status)
	case len(body) > maxCluster:
		return c, fmt.Errorf("%s answered with more than %d bytes", where, maxCluster)
	case len(secret) > 0 && !hmac.Equal([]byte(resp.Header.Get(HeaderSignature)), []byte(Sign(secret, nonce, body))):
		return c, fmt.Errorf("%s did not sign its answer with the secret of --cluster-secret-file: give all nodes the same one", where)
	}
	if c, err = parseCluster(body); err != nil {
		return c, fmt.Errorf("%s: %w", where, err)
	}
	return c, nil
}

func parseCluster(body []byte) (c Cluster, err error) {
	if err := json.Unmarshal(body, &c); err != nil {
		return c, fmt.Errorf("it is no node's: %w", err)
	}
	return c, c.check()
}

func (c *Cluster) check() error {
	if c.Cluster == "" || c.ClusterID == "" {
		return errors.New("it names no cluster")
	}
	if len(c.Etcd) == 0 || len(c.Etcd) > maxEndpoints {
		return fmt.Errorf("it names %d endpoints of etcd", len(c.Etcd))
	}
	for _, e := range c.Etcd {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return fmt.Errorf("%q is no endpoint of etcd", e)
		}
	}
	return nil
}
