package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/gateway"
)

// Caller sends a request to a node's HTTP address; with "" to any node that answers.
type Caller func(ctx context.Context, method, addr, path, contentType string, body []byte) (status int, answer []byte, err error)

// target is the cluster that is restored into, through its nodes' HTTP.
type target struct {
	call Caller

	mu      sync.Mutex
	leaders map[string]string // partition to HTTP address
}

// errAgain marks what another try, at the leader of then, may mend.
type errAgain struct{ error }

func (e errAgain) Unwrap() error { return e.error }

// ask makes a request and decodes the answer.
func (t *target) ask(ctx context.Context, method, addr, path, contentType string, body []byte, into any) error {
	status, answer, err := t.call(ctx, method, addr, path, contentType, body)
	if err != nil {
		return errAgain{err}
	}
	if status == http.StatusOK {
		if err := json.Unmarshal(answer, into); err != nil {
			return fmt.Errorf("%s %s: not what a raftsman node answers; is the address right? %w", method, path, err)
		}
		return nil
	}
	var said gateway.Error
	if json.Unmarshal(answer, &said) != nil || said.Text == "" {
		said.Text = fmt.Sprintf("%s %s: status %d; is this a raftsman node that knows of backups?", method, path, status)
	}
	said.Status = status
	switch status {
	case gateway.Misdirected, gateway.Unavailable, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		return errAgain{&said}
	}
	return &said
}

// atLeader does something at a partition's leader, whoever that is, until it succeeds
// or is refused for good.
func (t *target) atLeader(ctx context.Context, topic string, index int32, do func(addr string) (gateway.RefillState, error)) (gateway.RefillState, error) {
	until := time.Now().Add(patience)
	key := topic + "/" + strconv.Itoa(int(index))
	for {
		addr, err := t.leader(ctx, key, topic, index)
		var s gateway.RefillState
		if err == nil {
			if s, err = do(addr); err == nil {
				return s, nil
			}
		}
		var again errAgain
		if !errors.As(err, &again) || ctx.Err() != nil || time.Now().After(until) {
			return s, err
		}
		t.mu.Lock()
		delete(t.leaders, key)
		t.mu.Unlock()
		if err := wait(ctx, retryAfter); err != nil {
			return s, err
		}
	}
}

func (t *target) leader(ctx context.Context, key, topic string, index int32) (string, error) {
	t.mu.Lock()
	addr, ok := t.leaders[key]
	t.mu.Unlock()
	if ok {
		return addr, nil
	}
	s, err := t.stateAt(ctx, "", topic, index)
	if err != nil {
		var said *gateway.Error
		if errors.As(err, &said) && said.Status == gateway.NotFound { // it was made just now
			err = errAgain{err}
		}
		return "", err
	}
	if s.LeaderHTTP == "" {
		return "", errAgain{fmt.Errorf("partition %s has no leader", key)}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaders == nil {
		t.leaders = make(map[string]string)
	}
	t.leaders[key] = s.LeaderHTTP
	return s.LeaderHTTP, nil
}

func partitionQuery(topic string, index int32) url.Values {
	return url.Values{"topic": {topic}, "partition": {strconv.Itoa(int(index))}}
}

func (t *target) stateAt(ctx context.Context, addr, topic string, index int32) (s gateway.RefillState, err error) {
	err = t.ask(ctx, http.MethodGet, addr, "/partition/refill?"+partitionQuery(topic, index).Encode(), "", nil, &s)
	return s, err
}

func (t *target) state(ctx context.Context, topic string, index int32) (gateway.RefillState, error) {
	return t.atLeader(ctx, topic, index, func(addr string) (gateway.RefillState, error) {
		s, err := t.stateAt(ctx, addr, topic, index)
		if err == nil && !s.Leads {
			err = errAgain{fmt.Errorf("node %d does not lead %s/%d any more", s.Node, topic, index)}
		}
		return s, err
	})
}

func (t *target) begin(ctx context.Context, r gateway.RefillRequest) (gateway.RefillState, error) {
	return t.post(ctx, "/partition/refill/begin", r)
}

// end opens the partition. One that is open already, since the answer was lost, is not
// refused.
func (t *target) end(ctx context.Context, r gateway.RefillRequest) error {
	s, err := t.post(ctx, "/partition/refill/end", r)
	if err != nil {
		if now, serr := t.state(ctx, r.Topic, r.Partition); serr == nil && now.Token == 0 && now.Next >= r.Next && now.Start >= r.Offset {
			return nil
		}
		return err
	}
	if s.Token != 0 || s.Next < r.Next || s.Start < r.Offset {
		return fmt.Errorf("its offsets go from %d to %d, wanted %d to %d", s.Start, s.Next, r.Offset, r.Next)
	}
	return nil
}

func (t *target) post(ctx context.Context, path string, r gateway.RefillRequest) (gateway.RefillState, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return gateway.RefillState{}, err
	}
	return t.atLeader(ctx, r.Topic, r.Partition, func(addr string) (s gateway.RefillState, err error) {
		err = t.ask(ctx, http.MethodPost, addr, path, "application/json", body, &s)
		return s, err
	})
}

// fill sends batches. Those that are there already are ignored.
func (t *target) fill(ctx context.Context, r gateway.RefillRequest, batches []byte) (gateway.RefillState, error) {
	q := partitionQuery(r.Topic, r.Partition)
	q.Set("token", strconv.FormatInt(r.Token, 10))
	return t.atLeader(ctx, r.Topic, r.Partition, func(addr string) (s gateway.RefillState, err error) {
		err = t.ask(ctx, http.MethodPost, addr, "/partition/refill/batches?"+q.Encode(), gateway.FillType, batches, &s)
		return s, err
	})
}

// nodes are the HTTP addresses of the registered nodes, by number. It tries once: a
// wrong address is noticed before anything is changed.
func (t *target) nodes(ctx context.Context) (map[int32]string, error) {
	var cluster struct {
		Nodes []struct {
			Node int32  `json:"node"`
			HTTP string `json:"http"`
		} `json:"nodes"`
	}
	if err := t.ask(ctx, http.MethodGet, "", "/cluster.json", "", nil, &cluster); err != nil {
		return nil, fmt.Errorf("ask for the nodes: %w", err)
	}
	addrs := make(map[int32]string)
	for _, n := range cluster.Nodes {
		addrs[n.Node] = n.HTTP
	}
	return addrs, nil
}

// raiseProducerIDs has every node give new producers ids from floor on.
func (t *target) raiseProducerIDs(ctx context.Context, nodes map[int32]string, floor int64) error {
	if floor == 0 {
		return nil
	}
	body, err := json.Marshal(gateway.ProducerFloor{Floor: floor})
	if err != nil {
		return err
	}
	for node, addr := range nodes {
		err := retry(ctx, func() error {
			return t.ask(ctx, http.MethodPost, addr, "/producer-ids/floor", "application/json", body, &struct{}{})
		})
		if err != nil {
			return fmt.Errorf("node %d: raise the producer ids: %w", node, err)
		}
	}
	return nil
}
