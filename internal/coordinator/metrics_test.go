package coordinator

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// join is a JoinGroup of a version that needs no member id first, with some bytes
// of subscription.
func join(name, id string, size int) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID = 3, name, id
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = 30_000, 30_000, "consumer"
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", make([]byte, size)
	req.Protocols = append(req.Protocols, p)
	return req
}

// synced joins a group alone and syncs; it returns the member's id and the code of
// the SyncGroup.
func synced(t *testing.T, c *Coordinator, name, id string, size int) (string, error) {
	t.Helper()
	joined := ask(c, join(name, id, size)).wait(t).resp.(*kmsg.JoinGroupResponse)
	if err := kerr.ErrorForCode(joined.ErrorCode); err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 3, name, joined.MemberID, joined.Generation
	return joined.MemberID, kerr.ErrorForCode(ask(c, req).wait(t).resp.(*kmsg.SyncGroupResponse).ErrorCode)
}

// number is a metric's value, of a histogram its count.
func number(m *dto.Metric) float64 {
	return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
}

func value(m prometheus.Metric) float64 {
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		panic(err)
	}
	return number(&d)
}

func scrape(t *testing.T, r *prometheus.Registry, want string) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, f := range families {
		for _, m := range f.Metric {
			if g := number(m); g != 0 {
				label := ""
				if len(m.Label) > 0 {
					label = fmt.Sprintf("{%s}", m.Label[0].GetValue())
				}
				have = append(have, fmt.Sprintf("%s%s %v", f.GetName(), label, g))
			}
		}
	}
	for line := range strings.SplitSeq(strings.TrimSpace(want), "\n") {
		if !strings.Contains(strings.Join(have, "\n")+"\n", strings.TrimSpace(line)+"\n") {
			t.Errorf("no %q in\n%s", strings.TrimSpace(line), strings.Join(have, "\n"))
		}
	}
}

// The metrics follow the groups, and nothing is left of a coordinator that has
// ended but what it has counted.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	l := newMemLog()
	opts := options(l)
	opts.Metrics = m
	c, stop := start(t, opts)
	serves(t, c)
	if err := commitCode(t, ask(c, commit("g", 1))); err != nil {
		t.Fatal(err)
	}
	if _, err := synced(t, c, "h", "", 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the round is over", func() bool { return value(m.groups.WithLabelValues("Stable")) == 1 && value(m.durations) == 1 })
	scrape(t, reg, `
		raftsman_group_coordinators{serving} 1
		raftsman_groups{Empty} 1
		raftsman_groups{Stable} 1
		raftsman_group_members 1
		raftsman_group_rebalances_total 1
		raftsman_group_rebalance_duration_seconds 1
		raftsman_group_offset_commits_total 1
		raftsman_group_load_duration_seconds 1`)
	stop()
	for _, gone := range []prometheus.Gauge{m.coordinators.WithLabelValues("serving"), m.groups.WithLabelValues("Stable"), m.groups.WithLabelValues("Empty"), m.members} {
		if n := value(gone); n != 0 {
			t.Errorf("%v of a coordinator that has ended", n)
		}
	}
	l.lead(2)
	opts.Term = 2
	c, stop = start(t, opts)
	serves(t, c)
	eventually(t, "the groups were loaded", func() bool { return value(m.groups.WithLabelValues("Stable")) == 1 })
	if n := value(m.commits); n != 1 {
		t.Errorf("%v commits", n)
	}
	stop()
	m.Close()
	if left, err := reg.Gather(); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Many writes share batches that the topic takes.
func TestBatchesAreAsTheTopicTakes(t *testing.T) {
	l := newMemLog()
	l.most = 1000
	c, _ := start(t, options(l))
	serves(t, c)
	l.set(func() { l.hold = true })
	var all []*asked
	for i := range 200 {
		all = append(all, ask(c, commit(fmt.Sprint("g", i), int64(i))))
	}
	l.release()
	for i, a := range all {
		if err := commitCode(t, a); err != nil {
			t.Fatalf("commit %d: %v", i, err)
		}
	}
}

// A group whose record the topic does not take: Kafka's error, and a line in the
// log that names it, not for each of many attempts. When the topic takes it, all
// is well.
func TestOversizedGroup(t *testing.T) {
	l := newMemLog()
	l.most = 1000
	var log lines
	opts := options(l)
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	c, _ := start(t, opts)
	serves(t, c)
	id := ""
	for range 3 {
		var err error
		if id, err = synced(t, c, "big", id, 2000); !errors.Is(err, kerr.UnknownServerError) {
			t.Fatalf("sync: %v", err)
		}
	}
	if err := commitCode(t, ask(c, commit("small", 1))); err != nil {
		t.Errorf("another group: %v", err)
	}
	if text := log.String(); strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, "group=big") {
		t.Errorf("the log says:\n%s", text)
	}
	if n := value(c.opts.Metrics.tooLarge); n != 3 {
		t.Errorf("%v oversized writes", n)
	}
	l.set(func() { l.most = 10_000 })
	if _, err := synced(t, c, "big", id, 2000); err != nil {
		t.Errorf("sync: %v", err)
	}
}

// lines is a log's output.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
