package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
	"github.com/raftsman/raftsman/internal/torture/history"
	"github.com/raftsman/raftsman/pkg/node"
)

// admin creates topics, uses and deletes them, and deletes records.
func (r *run) admin(ctx context.Context, name string, rnd *rand.Rand) error {
	c, err := r.client(name)
	if err != nil {
		return err
	}
	defer c.close()
	adm := kadm.NewClient(c.kafka)
	adm.SetTimeoutMillis(int32(requestTimeout.Milliseconds()))
	w := writer{client: c}
	for n := 0; wait(ctx, time.Duration(100+rnd.IntN(900))*time.Millisecond); n++ {
		if rnd.IntN(3) > 0 {
			c.deleteRecords(ctx, adm, r.pick(rnd), rnd)
			continue
		}
		topic := fmt.Sprintf("%s-%d", r.topic, n)
		if r.create(ctx, c, topic, 1+rnd.Int32N(3)) != nil {
			continue
		}
		for range 5 {
			p, millis := partition{topic, 0}, time.Now().UnixMilli()
			records, ids := w.begin(p, 1+rnd.IntN(3), millis)
			offset, is, err := w.append(ctx, p, -1, batch(nil, 0, millis, records...))
			w.end(ids, offset, is, err, false)
		}
		_, _, _ = c.read(ctx, partition{topic, 0}, history.Leader, 0, 0, 1<<20) // the history has it
		id := r.hist.Begin(history.Event{Op: history.Drop, Client: name, Topic: topic})
		_, err := adm.DeleteTopic(ctx, topic)
		is := history.OK
		if err != nil {
			is = history.Unknown
		}
		r.hist.End(id, history.Event{Is: is, Text: text(err)})
		delete(c.leaders, partition{topic, 0})
	}
	return nil
}

// create makes a topic. One that exists already was made by an earlier try.
func (r *run) create(ctx context.Context, c *client, topic string, partitions int32) error {
	id := r.hist.Begin(history.Event{Op: history.Create, Client: c.name, Topic: topic})
	adm := kadm.NewClient(c.kafka)
	adm.SetTimeoutMillis(int32(2 * requestTimeout.Milliseconds()))
	create, cancel := context.WithTimeout(ctx, 4*requestTimeout)
	defer cancel()
	forever := "-1" // what is removed was asked for
	configs := map[string]*string{"retention.ms": &forever, "retention.bytes": &forever}
	_, err := adm.CreateTopic(create, partitions, int16(min(3, r.target.size())), configs, topic)
	is := history.OK
	if err != nil {
		is = history.Unknown
	}
	r.hist.End(id, history.Event{Is: is, Text: text(err)})
	return err
}

// deleteRecords deletes up to somewhere before the end.
func (c *client) deleteRecords(ctx context.Context, adm *kadm.Client, p partition, rnd *rand.Rand) {
	start, high, err := c.bounds(ctx, p)
	if err != nil || high-start < 2 {
		return
	}
	to := start + rnd.Int64N((high-start)/2+1)
	id := c.hist.Begin(history.Event{Op: history.Truncate, Client: c.name, Topic: p.topic, Partition: p.index, Offset: to})
	var offsets kadm.Offsets
	offsets.AddOffset(p.topic, p.index, to, -1)
	resp, err := adm.DeleteRecords(ctx, offsets)
	got, ok := resp.Lookup(p.topic, p.index)
	switch {
	case err == nil && ok && got.Err == nil:
		c.hist.End(id, history.Event{Is: history.OK, Start: got.LowWatermark})
	case err == nil:
		err = got.Err
		fallthrough
	default:
		c.hist.End(id, history.Event{Is: history.Unknown, Text: text(err)})
	}
}

// httpClient gives up early on a node that is away.
var httpClient = &http.Client{Timeout: 5 * time.Second}

// call asks the nodes in turn, until one answers.
func (r *run) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	err = errors.New("no HTTP address is known; see --http")
	for _, addr := range r.target.http() {
		var resp *http.Response
		if resp, err = request(ctx, httpClient, method, addr, path, body); err != nil {
			continue
		}
		err = json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(out)
		resp.Body.Close()
		if err == nil {
			return nil
		}
	}
	return err
}

func request(ctx context.Context, client *http.Client, method, addr, path string, body []byte) (*http.Response, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(addr, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if method != http.MethodGet {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // what there is of a reason
		resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	return resp, nil
}

// ask asks for an operation.
func (r *run) ask(ctx context.Context, op gateway.OpRequest) error {
	return r.call(ctx, http.MethodPost, "/ops", op, new(gateway.Operation))
}

// placed are the partitions of the run's topics, as a node sees them.
func (r *run) placed(ctx context.Context) ([]health.Partition, error) {
	var all, ours []health.Partition
	if err := r.call(ctx, http.MethodGet, "/partitions", nil, &all); err != nil {
		return nil, err
	}
	for _, p := range all {
		if strings.HasPrefix(p.Topic, r.topic) || p.Topic == "__consumer_offsets" {
			ours = append(ours, p)
		}
	}
	return ours, nil
}

// errIncomplete says that not all of every replica could be compared.
var errIncomplete = errors.New("not all could be compared")

// verify has the cluster compare its replicas.
func (r *run) verify(ctx context.Context) error {
	id := r.hist.Begin(history.Event{Op: history.Verify})
	var e history.Event
	err := r.until(ctx, min(r.Recovery, time.Minute), func() (err error) {
		e.Differences, e.Text, err = r.compare(ctx, false)
		return err
	})
	switch {
	case err == nil:
		e.Is = history.OK
	case errors.Is(err, errIncomplete):
		e = history.Event{Is: history.Failed, Text: text(err)}
	default:
		r.hist.End(id, history.Event{Is: history.Unknown, Text: text(err)})
		return fmt.Errorf("compare the replicas: %w", err)
	}
	r.hist.End(id, e)
	return nil
}

// compare counts differences, without those that it has repaired.
func (r *run) compare(ctx context.Context, repair bool) (differences int, first string, err error) {
	body, err := json.Marshal(node.VerifyOptions{Topics: []string{r.topic}, Repair: repair})
	if err != nil {
		return 0, "", err
	}
	var resp *http.Response
	for _, addr := range r.target.http() {
		if resp, err = request(ctx, http.DefaultClient, http.MethodPost, addr, "/cluster/verify", body); err == nil {
			break
		}
	}
	if resp == nil {
		return 0, "", errors.Join(err, errors.New("no node answers; see --http"))
	}
	defer resp.Body.Close()
	for lines := json.NewDecoder(resp.Body); ; {
		var e node.VerifyEvent
		if err := lines.Decode(&e); err != nil {
			return 0, "", fmt.Errorf("the node's answer ended early: %w", err)
		}
		switch {
		case e.Error != "":
			return 0, "", errors.New(e.Error)
		case e.Difference != nil && e.Difference.Repaired:
		case e.Difference != nil:
			if differences++; first == "" {
				b, _ := json.Marshal(e.Difference)
				first = string(b[:min(len(b), 1000)])
			}
		case e.Incomplete != nil:
			return 0, "", fmt.Errorf("%w: %s/%d: %s", errIncomplete, e.Incomplete.Topic, e.Incomplete.Partition, e.Incomplete.Reason)
		case e.Done != nil:
			return differences, first, nil
		}
	}
}
