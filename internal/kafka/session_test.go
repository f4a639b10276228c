package kafka

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// sessionClient asks incremental fetches.
type sessionClient struct {
	c         *rawClient
	version   int16
	id, epoch int32
}

// fetch sends what has changed; topics and forgotten may be empty.
func (s *sessionClient) fetch(topics []kmsg.FetchRequestTopic, forget []kmsg.FetchRequestForgottenTopic, change func(*kmsg.FetchRequest)) *kmsg.FetchResponse {
	s.c.t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxWaitMillis = 1, 0
	req.SessionID, req.SessionEpoch, req.Topics, req.ForgottenTopics = s.id, s.epoch, topics, forget
	if change != nil {
		change(req)
	}
	resp := ask[*kmsg.FetchResponse](s.c, req, s.version)
	if resp.ErrorCode == 0 {
		s.id = resp.SessionID
		s.epoch++
	}
	return resp
}

func readTopic(name string, id [16]byte, offset int64, indexes ...int32) []kmsg.FetchRequestTopic {
	return fetchReq(name, id, offset, indexes...).Topics
}

func forgetTopic(name string, id [16]byte, indexes ...int32) []kmsg.FetchRequestForgottenTopic {
	f := kmsg.NewFetchRequestForgottenTopic()
	f.Topic, f.TopicID, f.Partitions = name, id, indexes
	return []kmsg.FetchRequestForgottenTopic{f}
}

// summary is which partitions an answer has, as topic/partition, with the
// records' bytes or the error's name behind it.
func summary(r *rig, resp *kmsg.FetchResponse) (all []string) {
	for _, t := range resp.Topics {
		name := t.Topic
		if resp.Version >= 13 {
			name = fmt.Sprint("id", t.TopicID[15])
		}
		for _, p := range t.Partitions {
			what := fmt.Sprint(len(p.RecordBatches))
			if p.ErrorCode != 0 {
				what = nameOf(p.ErrorCode)
			}
			all = append(all, fmt.Sprintf("%s/%d %s", name, p.Partition, what))
		}
	}
	return all
}

// A session's life, as Kafka has it: which requests it answers with which code,
// and which partitions are in each answer.
func TestFetchSessionLife(t *testing.T) {
	for _, version := range []int16{7, 12, 13, 18} {
		r := newRig(t, nil)
		info := r.back.mustCreate("t", 3)
		r.back.part("t", 1).Append(testBatch(10), func(AppendResult) {})
		one := fmt.Sprint(len(testBatch(10)))
		s := &sessionClient{c: r.dial(), version: version}
		name := "t"
		if version >= 13 {
			name = "id1"
		}
		want := func(what string, resp *kmsg.FetchResponse, code *kerr.Error, parts ...string) {
			t.Helper()
			for i := range parts {
				parts[i] = name + "/" + parts[i]
			}
			wantCode(t, fmt.Sprintf("version %d, %s", version, what), resp.ErrorCode, code)
			if got := summary(r, resp); !slices.Equal(got, parts) {
				t.Errorf("version %d, %s: %q, want %q", version, what, got, parts)
			}
			if code != nil && resp.SessionID != 0 {
				t.Errorf("version %d, %s: session %d beside an error", version, what, resp.SessionID)
			}
		}
		want("full", s.fetch(readTopic("t", info.ID, 0, 0, 1, 2), nil, nil), nil, "0 0", "1 "+one, "2 0")
		if s.id <= 0 {
			t.Fatalf("version %d: session %d", version, s.id)
		}
		want("what was read is read again until the client says that it has it", s.fetch(nil, nil, nil), nil, "1 "+one)
		want("it has it: nothing", s.fetch(readTopic("t", info.ID, 1, 1), nil, nil), nil)
		r.back.part("t", 2).Append(testBatch(10), func(AppendResult) {})
		want("news of one", s.fetch(nil, nil, nil), nil, "2 "+one)
		want("it has it", s.fetch(readTopic("t", info.ID, 1, 2), nil, nil), nil)
		r.back.part("t", 0).setStart(0, 5)
		want("another log start and high watermark, no records", s.fetch(readTopic("t", info.ID, 5, 0), nil, nil), nil, "0 0")
		want("told once", s.fetch(nil, nil, nil), nil)
		want("a wrong offset, each time", s.fetch(readTopic("t", info.ID, 9, 0), nil, nil), nil, "0 OFFSET_OUT_OF_RANGE")
		want("again", s.fetch(nil, nil, nil), nil, "0 OFFSET_OUT_OF_RANGE")
		want("told anew when the error has gone", s.fetch(readTopic("t", info.ID, 5, 0), nil, nil), nil, "0 0")
		want("forgets one", s.fetch(nil, forgetTopic("t", info.ID, 0, 1, 7), nil), nil)
		r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {})
		r.back.part("t", 2).Append(testBatch(10), func(AppendResult) {})
		want("news of what is left", s.fetch(nil, nil, nil), nil, "2 "+one)

		epoch := s.epoch
		s.epoch = epoch + 1
		want("an epoch ahead", s.fetch(nil, nil, nil), kerr.InvalidFetchSessionEpoch)
		s.epoch = epoch - 1
		want("an epoch back", s.fetch(nil, nil, nil), kerr.InvalidFetchSessionEpoch)
		s.epoch = -2
		want("a negative epoch", s.fetch(nil, nil, nil), kerr.InvalidFetchSessionEpoch)
		s.epoch = epoch
		id := s.id
		s.id = id ^ 1
		want("another session", s.fetch(nil, nil, nil), kerr.FetchSessionIDNotFound)
		s.id = id
		other := int16(25 - version) // 7 and 18, 12 and 13
		s.version = other
		want("names for ids or ids for names", s.fetch(nil, nil, nil), kerr.FetchSessionTopicIDError)
		s.version = version
		want("it goes on all the same, on another connection too",
			(&sessionClient{c: r.dial(), version: version, id: id, epoch: epoch}).fetch(readTopic("t", info.ID, 2, 2), nil, nil), nil)

		s.epoch++
		want("nothing is left", s.fetch(nil, forgetTopic("t", info.ID, 2), nil), nil)
		if s.id != 0 {
			t.Errorf("version %d: session %d of no partition", version, s.id)
		}
		s.id, s.epoch = id, epoch+2
		want("it has ended", s.fetch(nil, nil, nil), kerr.FetchSessionIDNotFound)
		for i := range 3 {
			eventually(t, "nobody watches", func() bool { return r.back.part("t", i).watched() == 0 })
		}
	}
}

// A full fetch ends the session that it names, and makes one unless its epoch is
// the final one.
func TestFetchSessionEnds(t *testing.T) {
	r := newRig(t, nil)
	info := r.back.mustCreate("t", 1)
	for _, c := range []struct {
		name  string
		epoch int32
		makes bool
	}{{"a new one", 0, true}, {"none", -1, false}} {
		s := &sessionClient{c: r.dial(), version: 12}
		s.fetch(readTopic("t", info.ID, 0, 0), nil, nil)
		old := s.id
		s.epoch = c.epoch
		resp := s.fetch(readTopic("t", info.ID, 0, 0), nil, nil)
		if wantCode(t, c.name, resp.ErrorCode, nil); resp.SessionID == old || (resp.SessionID != 0) != c.makes || len(resp.Topics) != 1 {
			t.Errorf("%s: %+v", c.name, resp)
		}
		s.id, s.epoch = old, 1
		wantCode(t, c.name+" was asked for, the old one", s.fetch(nil, nil, nil).ErrorCode, kerr.FetchSessionIDNotFound)
	}
	if resp := ask[*kmsg.FetchResponse](r.dial(), fetchReq("t", info.ID, 0, 0), 6); resp.SessionID != 0 {
		t.Errorf("version 6 has session %d", resp.SessionID)
	}
}

// Topics that go and come while a session knows them.
func TestFetchSessionTopicsChange(t *testing.T) {
	r := newRig(t, nil)
	info := r.back.mustCreate("t", 1)
	byName := &sessionClient{c: r.dial(), version: 12}
	byID := &sessionClient{c: r.dial(), version: 13}
	byName.fetch(readTopic("t", info.ID, 0, 0), nil, nil)
	byID.fetch(append(readTopic("", info.ID, 0, 0), readTopic("", [16]byte{15: 77}, 0, 0)...), nil, nil)
	want := func(what string, names, ids string) {
		t.Helper()
		if got := fmt.Sprint(summary(r, byName.fetch(nil, nil, nil))); got != names {
			t.Errorf("%s, by name: %s, want %s", what, got, names)
		}
		if got := fmt.Sprint(summary(r, byID.fetch(nil, nil, nil))); got != ids {
			t.Errorf("%s, by id: %s, want %s", what, got, ids)
		}
	}
	const unknown = "id77/0 UNKNOWN_TOPIC_ID"
	want("there", "[]", "["+unknown+"]")
	if errs := r.back.DeleteTopics(t.Context(), []TopicInfo{info}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	want("deleted", "[t/0 UNKNOWN_TOPIC_OR_PARTITION]", "[id1/0 UNKNOWN_TOPIC_OR_PARTITION "+unknown+"]")
	r.back.mustCreate("t", 1)
	r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {})
	want("created anew", fmt.Sprintf("[t/0 %d]", len(testBatch(10))), "[id1/0 INCONSISTENT_TOPIC_ID "+unknown+"]")
}

// Who was given records comes last the next time, so that a small max_bytes is
// shared out.
func TestFetchSessionRotates(t *testing.T) {
	r := newRig(t, nil)
	info := r.back.mustCreate("t", 4)
	for i := range 4 {
		for range 3 {
			r.back.part("t", i).Append(testBatch(1000), func(AppendResult) {})
		}
	}
	s := &sessionClient{c: r.dial(), version: 12}
	small := func(q *kmsg.FetchRequest) { q.MaxBytes = int32(len(testBatch(1000))) }
	s.fetch(readTopic("t", info.ID, 0, 0, 1, 2, 3), nil, small) // as the request has them
	var got []int32
	for range 8 {
		for _, tp := range s.fetch(nil, nil, small).Topics {
			for _, p := range tp.Partitions {
				if len(p.RecordBatches) > 0 {
					got = append(got, p.Partition)
				}
			}
		}
	}
	if want := []int32{0, 1, 2, 3, 0, 1, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("records of partitions %v, want %v", got, want)
	}
}

// A session's parked fetch wakes for any of its partitions, and those that had
// nothing are not read again until they ring.
func TestFetchSessionParks(t *testing.T) {
	r := newRig(t, nil)
	info := r.back.mustCreate("t", 50)
	s := &sessionClient{c: r.dial(), version: 12}
	indexes := make([]int32, 50)
	for i := range indexes {
		indexes[i] = int32(i)
	}
	s.fetch(readTopic("t", info.ID, 0, indexes...), nil, nil)
	for round := range 5 {
		i := (7 * round) % 50
		before := r.back.part("t", 49).lentCount()
		done := make(chan []string, 1)
		go func() {
			done <- summary(r, s.fetch(nil, nil, func(q *kmsg.FetchRequest) { q.MaxWaitMillis = 60_000 }))
		}()
		eventually(t, "the fetch waits", func() bool { return r.back.part("t", i).watched() == 1 })
		r.back.part("t", i).Append(testBatch(10), func(AppendResult) {})
		if got := <-done; len(got) != 1 || got[0] != fmt.Sprintf("t/%d %d", i, len(testBatch(10))) {
			t.Fatalf("round %d: %q", round, got)
		}
		if resp := s.fetch(readTopic("t", info.ID, 1, int32(i)), nil, nil); len(resp.Topics) != 0 {
			t.Fatalf("round %d: %q", round, summary(r, resp))
		}
		if now := r.back.part("t", 49).lentCount(); now != before {
			t.Fatalf("round %d: an idle partition was read %d times", round, now-before)
		}
	}
}

// Two fetches of one session, one after the other, are answered in order.
func TestFetchSessionPipelined(t *testing.T) {
	r := newRig(t, nil)
	info := r.back.mustCreate("t", 1)
	s := &sessionClient{c: r.dial(), version: 12}
	s.fetch(readTopic("t", info.ID, 0, 0), nil, nil)
	var reqs [2]*kmsg.FetchRequest
	for i := range reqs {
		reqs[i] = kmsg.NewPtrFetchRequest()
		reqs[i].MinBytes, reqs[i].MaxWaitMillis, reqs[i].SessionID, reqs[i].SessionEpoch = 1, 60_000, s.id, s.epoch+int32(i)
		s.c.send(reqs[i], 12)
	}
	eventually(t, "the first one waits", func() bool { return r.back.part("t", 0).watched() == 1 })
	r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {})
	for i := range reqs {
		resp, _ := s.c.receive(reqs[i], int32(2+i))
		got := resp.(*kmsg.FetchResponse)
		wantCode(t, "pipelined", got.ErrorCode, nil)
		if parts := summary(r, got); len(parts) != 1 {
			t.Errorf("answer %d: %q", i, parts)
		}
	}
}

// Which session makes way, by Kafka's rules.
func TestFetchSessionEviction(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	advance := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
	r := newRig(t, func(o *Options) { o.Clock, o.Limits.MaxFetchSessions = clock, 2 })
	info := r.back.mustCreate("t", 4)
	start := func(indexes ...int32) *sessionClient {
		s := &sessionClient{c: r.dial(), version: 12}
		s.fetch(readTopic("t", info.ID, 0, indexes...), nil, nil)
		return s
	}
	alive := func(s *sessionClient) bool { return s.fetch(nil, nil, nil).ErrorCode == 0 }
	small, large := start(0), start(0, 1)
	if s := start(0, 1, 2); s.id != 0 {
		t.Fatal("a young session made way")
	}
	advance(sessionRest + time.Second)
	if !alive(large) {
		t.Fatal("no room was wanted")
	}
	if s := start(3); s.id == 0 { // small is stale
		t.Fatal("a stale session did not make way")
	} else if alive(small) || !alive(large) {
		t.Fatal("another one than the stale one made way")
	} else {
		small = s
	}
	advance(sessionRest / 2)
	alive(small)
	advance(sessionRest/2 + time.Second)
	alive(small)
	alive(large)
	if s := start(0); s.id != 0 {
		t.Fatal("one made way for another that is no larger")
	}
	if s := start(0, 1); s.id == 0 || alive(small) || !alive(large) {
		t.Fatal("the smallest did not make way for a larger one")
	}
}

// What sessions keep is bounded: one that would grow too large ends, and its
// client goes on without.
func TestFetchSessionMemory(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.MaxSessionMemory = 10 * 500 })
	info := r.back.mustCreate("t", 20)
	s := &sessionClient{c: r.dial(), version: 12}
	s.fetch(readTopic("t", info.ID, 0, 0, 1, 2, 3), nil, nil)
	wantCode(t, "grows", s.fetch(readTopic("t", info.ID, 0, 4, 5, 6), nil, nil).ErrorCode, nil)
	wantCode(t, "shrinks and grows", s.fetch(readTopic("t", info.ID, 0, 7, 8, 9), forgetTopic("t", info.ID, 0, 1, 2, 3, 4), nil).ErrorCode, nil)
	wantCode(t, "too many", s.fetch(readTopic("t", info.ID, 0, 10, 11, 12, 13, 14, 15, 16), nil, nil).ErrorCode, kerr.FetchSessionIDNotFound)
	if n, parts, _ := r.srv.sessions.counts(); n != 0 || parts != 0 || r.srv.sessions.used != 0 {
		t.Errorf("%d sessions with %d partitions in %d bytes are left", n, parts, r.srv.sessions.used)
	}
	s.id, s.epoch = 0, 0
	if resp := s.fetch(readTopic("t", info.ID, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), nil, nil); resp.SessionID != 0 || len(resp.Topics[0].Partitions) != 12 {
		t.Errorf("session %d with %d partitions", resp.SessionID, len(resp.Topics[0].Partitions))
	}
}

// A session that forgets most of its partitions keeps no room for them.
func TestFetchSessionShrinks(t *testing.T) {
	r := newRig(t, nil)
	big := &sessionClient{c: r.dial(), version: 12}
	info := r.back.mustCreate("wide", 1000)
	indexes := make([]int32, 1000)
	for i := range indexes {
		indexes[i] = int32(i)
	}
	big.fetch(readTopic("wide", info.ID, 0, indexes...), nil, nil)
	wantCode(t, "all but one go", big.fetch(nil, forgetTopic("wide", info.ID, indexes[1:]...), nil).ErrorCode, nil)
	r.srv.sessions.mu.Lock()
	f := r.srv.sessions.byID[big.id]
	r.srv.sessions.mu.Unlock()
	<-f.token
	if kept := cap(f.parts); kept > 64 {
		t.Errorf("room for %d partitions is kept for one", kept)
	}
	f.token <- struct{}{}
	r.srv.sessions.remove(big.id)
	eventually(t, "nobody watches", func() bool { return r.back.part("wide", 0).watched() == 0 })
}

// sessionModel is what a session must answer, straightforwardly: all partitions
// are looked at each time, and what differs from what was told is told.
type sessionModel struct {
	asked map[string]int64 // offset by partition
	told  map[string][2]int64
}

func (m *sessionModel) answer(look func(key string) (hw, start int64, code *kerr.Error)) (want []string) {
	for key, offset := range m.asked {
		hw, start, code := look(key)
		switch {
		case code == nil && offset > hw, code == nil && offset < start:
			code = kerr.OffsetOutOfRange
		case code == nil && offset == hw && m.told[key] == [2]int64{hw, start}:
			continue
		}
		if m.told[key] = [2]int64{hw, start}; code != nil {
			want = append(want, key+" "+code.Message)
			m.told[key] = [2]int64{-1, -1}
			continue
		}
		want = append(want, fmt.Sprintf("%s %d", key, int(hw-offset)*len(testBatch(10))))
	}
	slices.Sort(want)
	return want
}

// Random adds, changes, forgets, wrong epochs, appends, log starts, leaders and
// topics against the model.
func TestFetchSessionModel(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := newRig(t, nil)
		topics := []string{"a", "b", "n"} // there is no n
		for _, name := range topics[:2] {
			r.back.mustCreate(name, 6)
		}
		s := &sessionClient{c: r.dial(), version: 7 + int16(rnd.IntN(6))}
		m := &sessionModel{asked: make(map[string]int64), told: make(map[string][2]int64)}
		look := func(key string) (int64, int64, *kerr.Error) {
			var topic string
			var index int32
			fmt.Sscanf(key, "%1s/%d", &topic, &index)
			if topic == "n" || index >= 6 {
				return 0, 0, kerr.UnknownTopicOrPartition
			}
			o, leads := r.back.part(topic, int(index)).Offsets()
			if !leads {
				return 0, 0, kerr.NotLeaderForPartition
			}
			return o.HighWatermark, o.Start, nil
		}
		for step := range 300 {
			topic, index := topics[rnd.IntN(len(topics))], int32(rnd.IntN(7))
			key := fmt.Sprintf("%s/%d", topic, index)
			var add []kmsg.FetchRequestTopic
			var forget []kmsg.FetchRequestForgottenTopic
			switch rnd.IntN(12) {
			case 0, 1, 2:
				offset := int64(rnd.IntN(3))
				if hw, _, code := look(key); code == nil && rnd.IntN(4) > 0 {
					offset = hw
				}
				m.asked[key] = offset
				add = readTopic(topic, [16]byte{}, offset, index)
				if _, known := m.told[key]; !known {
					m.told[key] = [2]int64{-1, -1}
				}
			case 3:
				if s.epoch > 0 {
					forget = forgetTopic(topic, [16]byte{}, index)
					delete(m.asked, key)
					delete(m.told, key)
				}
			case 4:
				if s.epoch > 0 {
					epoch := s.epoch
					s.epoch += 1 + int32(rnd.IntN(3))
					wantCode(t, "wrong epoch", s.fetch(add, nil, nil).ErrorCode, kerr.InvalidFetchSessionEpoch)
					s.epoch = epoch
				}
			case 5, 6, 7:
				if _, _, code := look(key); code == nil {
					r.back.part(topic, int(index)).Append(testBatch(10), func(AppendResult) {})
				}
			case 8:
				if hw, start, code := look(key); code == nil && start < hw {
					r.back.part(topic, int(index)).setStart(start+1, hw)
				}
			case 9:
				if topic != "n" && index < 6 {
					_, leads := r.back.part(topic, int(index)).Offsets()
					r.back.setLeader(topic, index, map[bool]int32{true: 2, false: 1}[leads], 3)
				}
			}
			full := s.epoch == 0
			if full { // all is asked anew
				add = nil
				for k, offset := range m.asked {
					var topic string
					var index int32
					fmt.Sscanf(k, "%1s/%d", &topic, &index)
					add = append(add, readTopic(topic, [16]byte{}, offset, index)...)
					m.told[k] = [2]int64{-2, -2} // all is told
				}
				if len(add) == 0 {
					continue
				}
			}
			resp := s.fetch(add, forget, nil)
			wantCode(t, "fetch", resp.ErrorCode, nil)
			got := summary(r, resp)
			slices.Sort(got)
			if want := m.answer(look); !slices.Equal(got, want) {
				t.Fatalf("seed %d, step %d: %q, want %q", seed, step, got, want)
			}
			if len(m.asked) == 0 {
				if s.id != 0 {
					t.Fatalf("seed %d, step %d: session %d of nothing", seed, step, s.id)
				}
				s.epoch = 0
			}
		}
	}
}
