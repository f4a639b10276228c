package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// fakeRefiller remembers the last request.
type fakeRefiller struct{ last string }

func (f *fakeRefiller) note(format string, args ...any) (RefillState, error) {
	f.last = fmt.Sprintf(format, args...)
	return RefillState{Topic: "t", Leads: true, Next: 7}, nil
}

func (f *fakeRefiller) State(topic string, index int32) (RefillState, error) {
	if topic == "elsewhere" {
		return RefillState{}, Refuse(Misdirected, errors.New("node 2 leads it"))
	}
	return f.note("state %s/%d", topic, index)
}

func (f *fakeRefiller) Begin(_ context.Context, r RefillRequest) (RefillState, error) {
	return f.note("begin %+v", r)
}

func (f *fakeRefiller) Fill(_ context.Context, topic string, index int32, token int64, batches []byte) (RefillState, error) {
	return f.note("fill %s/%d %d: %d bytes", topic, index, token, len(batches))
}

func (f *fakeRefiller) End(_ context.Context, r RefillRequest) (RefillState, error) {
	return f.note("end %+v", r)
}

func (f *fakeRefiller) RaiseProducerIDs(_ context.Context, floor int64) error {
	_, err := f.note("floor %d", floor)
	return err
}

func TestRefill(t *testing.T) {
	f := &fakeRefiller{}
	base := start(t, Options{Refiller: f})
	batches := "/partition/refill/batches?topic=t&partition=3&token=9"
	octets := []string{"Content-Type", FillType}
	large := strings.Repeat("x", 2*maxBody)
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
		asked              string // of the Refiller; "" for nothing
	}{
		{"GET", "/partition/refill?topic=t&partition=3", "", nil, 200, "state t/3"},
		{"GET", "/partition/refill?topic=t&partition=x", "", nil, 400, ""},
		{"GET", "/partition/refill?topic=elsewhere&partition=0", "", nil, 421, ""},
		{"POST", "/partition/refill/begin", `{"topic":"t","partition":3,"token":9,"offset":5}`, nil, 200, "begin {Topic:t Partition:3 Token:9 Offset:5 Next:0}"},
		{"POST", "/partition/refill/end", `{"topic":"t","partition":3,"token":9,"offset":5,"next":8}`, nil, 200, "end {Topic:t Partition:3 Token:9 Offset:5 Next:8}"},
		{"POST", "/partition/refill/begin", `{"topic":"t","ofset":5}`, nil, 400, ""},
		{"POST", "/partition/refill/begin", `{}`, []string{"Content-Type", "text/plain"}, 415, ""},
		{"POST", "/partition/refill/end", `{}`, []string{"Origin", "http://somewhere"}, 403, ""},
		{"POST", batches, "abc", octets, 200, "fill t/3 9: 3 bytes"},
		{"POST", batches, large, octets, 200, fmt.Sprintf("fill t/3 9: %d bytes", len(large))},
		{"POST", batches, "abc", []string{"Content-Type", "text/plain"}, 415, ""},
		{"POST", batches, "abc", append([]string{"Sec-Fetch-Site", "cross-site"}, octets...), 403, ""},
		{"POST", "/partition/refill/batches?topic=t&partition=3&token=x", "abc", octets, 400, ""},
		{"POST", "/partition/refill/batches?topic=t&token=9", "abc", octets, 400, ""},
		{"POST", "/producer-ids/floor", `{"floor":12}`, nil, 200, "floor 12"},
		{"POST", "/producer-ids/floor", `12`, nil, 400, ""},
	} {
		f.last = ""
		status, answer, _ := send(t, c.method, base+c.path, c.body, c.headers...)
		if status != c.status || f.last != c.asked {
			t.Errorf("%s %s: %d %s, asked for %q; want %d and %q", c.method, c.path, status, answer, f.last, c.status, c.asked)
		}
	}
	if status, _, _ := send(t, http.MethodPost, start(t, Options{})+batches, "abc", octets...); status != http.StatusNotFound {
		t.Errorf("without a Refiller: %d", status)
	}
}
