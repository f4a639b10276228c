package kafka_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// etcdEnv names the directory of the etcd that this program shall be instead of a
// test: beside the node it would blur what the node allocates.
const etcdEnv = "RAFTSMAN_FUZZ_ETCD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(etcdEnv); dir != "" {
		if err := beEtcd(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// beEtcd runs etcd until the standard input ends.
func beEtcd(dir string) error {
	servers, err := testetcd.Open(dir, 1)
	if err != nil {
		return err
	}
	fmt.Println(servers[0].Endpoint())
	_, err = io.Copy(io.Discard, os.Stdin)
	servers[0].Stop()
	return err
}

// startEtcd starts etcd in a process of its own, which ends when this one does.
func startEtcd(dir string) (endpoint string, stop func() error, err error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), etcdEnv+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return "", nil, fmt.Errorf("etcd did not start: %w", errors.Join(err, cmd.Wait()))
	}
	return strings.TrimSpace(line), func() error {
		stdin.Close()
		return cmd.Wait()
	}, nil
}

const (
	keptTopic = "intact-9f3c" // the fuzzer does not know it
	keptGroup = "intact-9f3c"
)

// patience is for what must happen in the end, however busy the machine is.
const patience = 30 * time.Second

// life is a node from its start to its end.
type life struct {
	node    *node.Node
	cancel  context.CancelFunc
	done    chan error
	conn    net.Conn
	topicID [16]byte   // of madeTopic
	kept    [][]string // records batches of keptTopic, without what the server sets, by partition
	commits int64
}

// bear starts a node on a directory and makes its topics, unless they are there.
// kept is what keptTopic has.
func bear(etcd, dir, cluster string, kept [][]string) (*life, error) {
	cfg := node.Config{
		NodeID: 1, DataDir: dir, Cluster: cluster, Etcd: node.Etcd{Endpoints: []string{etcd}},
		Listeners: []node.KafkaListener{{Name: "default", Addr: "127.0.0.1:0"}}, HTTPAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0",
		SessionTTL: 10 * time.Second, AutoCreateTopics: true, LeaderReturnDelay: -1, DrainTimeout: -1, MinFreeDisk: -1,
		Groups:       node.Groups{TopicPartitions: 2, InitialRebalanceDelay: 20 * time.Millisecond},
		WAL:          node.WAL{FileSize: 1 << 20, SizeLimit: 16 << 20},
		SegmentBytes: 1 << 20, CompactionMemory: 1 << 20, UpkeepInterval: time.Second,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	n, err := node.New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{node: n, cancel: cancel, done: make(chan error, 1), kept: kept}
	go func() { l.done <- n.Run(ctx) }()
	select {
	case <-n.Ready():
	case err := <-l.done:
		return nil, fmt.Errorf("the node ended: %w", err)
	case <-time.After(patience):
		return nil, errors.Join(errors.New("the node is not ready"), l.end())
	}
	if kept == nil {
		l.kept = make([][]string, 2)
	}
	if err := l.checkUp(); err != nil {
		return nil, errors.Join(err, l.end())
	}
	return l, nil
}

// end stops the node and waits for it.
func (l *life) end() error {
	l.hangUp()
	l.cancel()
	select {
	case err := <-l.done:
		return err
	case <-time.After(2 * patience):
		return errors.New("the node does not stop")
	}
}

func (l *life) hangUp() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// ask sends a request on the life's own connection and returns the response.
func (l *life) ask(req kmsg.Request) (resp kmsg.Response, err error) {
	defer func() {
		if err != nil {
			l.hangUp()
		}
	}()
	if l.conn == nil {
		c, err := net.Dial("tcp", l.node.KafkaAddr())
		if err != nil {
			return nil, err
		}
		l.conn = c
	}
	l.conn.SetDeadline(time.Now().Add(patience))
	_, err = l.conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 7))
	var body []byte
	if err == nil {
		body, err = readFrame(l.conn)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
	}
	return parseResponse(req, body, 7)
}

func readFrame(c io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 4 || n > 64<<20 {
		return nil, fmt.Errorf("an answer of %d bytes", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	return b, err
}

// parseResponse reads an answer, which must be that to the request and nothing more.
func parseResponse(req kmsg.Request, b []byte, correlation int32) (kmsg.Response, error) {
	if got := int32(binary.BigEndian.Uint32(b)); got != correlation {
		return nil, fmt.Errorf("answer to %d, asked %d", got, correlation)
	}
	b = b[4:]
	if req.IsFlexible() && req.Key() != 18 {
		if len(b) == 0 || b[0] != 0 {
			return nil, errors.New("the answer's header has tags")
		}
		b = b[1:]
	}
	resp := req.ResponseKind()
	if err := resp.ReadFrom(b); err != nil {
		return nil, fmt.Errorf("%s version %d: the answer does not parse: %w", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	if again := resp.AppendTo(nil); len(again) != len(b) {
		return nil, fmt.Errorf("%s version %d: an answer of %d bytes parses to %d", kmsg.NameForKey(req.Key()), req.GetVersion(), len(b), len(again))
	}
	return resp, nil
}

// retry repeats what may fail for a while.
func retry(what string, f func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// checkUp writes, reads and commits as any client does, and compares everything
// that it has written so far with what is there.
func (l *life) checkUp() error {
	defer l.hangUp()
	if err := l.resetBrokers(); err != nil {
		return err
	}
	if err := l.makeTopics(); err != nil {
		return err
	}
	for p := range l.kept {
		if err := l.write(keptTopic, p); err != nil {
			return err
		}
		if err := l.compare(p); err != nil {
			return err
		}
		if err := retry("write to "+madeTopic, func() error { return l.produce(madeTopic, p, kafka.OneRecord(100)) }); err != nil {
			return err
		}
	}
	if err := l.commit(); err != nil {
		return err
	}
	return l.join()
}

// resetBrokers takes back what the fuzzer has configured for all topics.
func (l *life) resetBrokers() error {
	return retry("reset the brokers' configurations", func() error {
		req := kmsg.NewPtrAlterConfigsRequest()
		req.Version = 1
		for _, name := range []string{"", "1"} {
			r := kmsg.NewAlterConfigsRequestResource()
			r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, name
			req.Resources = append(req.Resources, r)
		}
		resp, err := l.ask(req)
		if err != nil {
			return err
		}
		for _, r := range resp.(*kmsg.AlterConfigsResponse).Resources {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				return err
			}
		}
		return nil
	})
}

// makeTopics makes the topics that are missing, and removes the fuzzer's if there
// are many.
func (l *life) makeTopics() error {
	return retry("make topics", func() error {
		m := kmsg.NewPtrMetadataRequest()
		m.Version, m.AllowAutoTopicCreation = 12, false
		resp, err := l.ask(m)
		if err != nil {
			return err
		}
		have, partitions := map[string]*kmsg.MetadataResponseTopic{}, 0
		drop := kmsg.NewPtrDeleteTopicsRequest()
		drop.Version, drop.TimeoutMillis = 5, 10_000
		for i, t := range resp.(*kmsg.MetadataResponse).Topics {
			have[*t.Topic] = &resp.(*kmsg.MetadataResponse).Topics[i]
			if partitions += len(t.Partitions); *t.Topic != madeTopic && *t.Topic != keptTopic && !t.IsInternal {
				drop.TopicNames = append(drop.TopicNames, *t.Topic)
			}
		}
		if partitions > 60 {
			if _, err := l.ask(drop); err != nil {
				return err
			}
		}
		if made := have[madeTopic]; made != nil && have[keptTopic] != nil && len(made.Partitions) >= 2 {
			l.topicID = made.TopicID
			return nil
		}
		mk := kmsg.NewPtrCreateTopicsRequest()
		mk.Version, mk.TimeoutMillis = 5, 10_000
		for _, name := range []string{madeTopic, keptTopic} {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = name, 2, 1
			if name == keptTopic {
				for k, v := range map[string]string{
					"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": "100000", "min.insync.replicas": "1",
					"message.timestamp.type": "CreateTime", "message.timestamp.before.max.ms": strconv.Itoa(math.MaxInt64), "message.timestamp.after.max.ms": strconv.Itoa(math.MaxInt64),
				} {
					c := kmsg.NewCreateTopicsRequestTopicConfig()
					c.Name, c.Value = k, kmsg.StringPtr(v)
					t.Configs = append(t.Configs, c)
				}
			}
			mk.Topics = append(mk.Topics, t)
		}
		if _, err = l.ask(mk); err != nil {
			return err
		}
		return fmt.Errorf("%d topics", len(have))
	})
}

func (l *life) produce(topic string, partition int, batch []byte) error {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, -1, 10_000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = int32(partition), batch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := l.ask(req)
	if err != nil {
		return err
	}
	got := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return err
	}
	if topic == keptTopic && got.BaseOffset != int64(len(l.kept[partition])) {
		return fmt.Errorf("%s/%d: written at %d, want %d", topic, partition, got.BaseOffset, len(l.kept[partition]))
	}
	return nil
}

// write adds a batch to keptTopic. Nothing but a fresh leadership may make it fail,
// and then it was not written.
func (l *life) write(topic string, partition int) error {
	b := kafka.OneRecord(100 + len(l.kept[partition]))
	return retry("write", func() error {
		err := l.produce(topic, partition, slices.Clone(b))
		if err == nil {
			l.kept[partition] = append(l.kept[partition], string(b[16:]))
		}
		return err
	})
}

// compare reads all of a partition of keptTopic.
func (l *life) compare(partition int) error {
	for offset := 0; offset < len(l.kept[partition]); {
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.MaxBytes, req.MaxWaitMillis, req.MinBytes, req.SessionEpoch = 12, 1<<20, 1000, 1, -1
		t := kmsg.NewFetchRequestTopic()
		t.Topic = keptTopic
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = int32(partition), int64(offset), 1<<20, -1
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		resp, err := l.ask(req)
		if err != nil {
			return err
		}
		got := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(got.ErrorCode); err != nil || len(got.RecordBatches) == 0 {
			return fmt.Errorf("%s/%d: read at %d of %d: %d bytes, %w", keptTopic, partition, offset, len(l.kept[partition]), len(got.RecordBatches), err)
		}
		for b := got.RecordBatches; len(b) > 0; offset++ {
			if offset == len(l.kept[partition]) {
				return fmt.Errorf("%s/%d: more than the %d batches that were written", keptTopic, partition, offset)
			}
			n := 12 + int(binary.BigEndian.Uint32(b[8:]))
			if at := binary.BigEndian.Uint64(b); at != uint64(offset) || !bytes.Equal(b[16:n], []byte(l.kept[partition][offset])) {
				return fmt.Errorf("%s/%d: the batch at %d has changed, or is %d", keptTopic, partition, offset, at)
			}
			b = b[n:]
		}
	}
	return nil
}

// commit commits an offset and reads it back.
func (l *life) commit() error {
	l.commits++
	return retry("commit", func() error {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Group, req.Generation = 7, keptGroup, -1
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = keptTopic
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset = l.commits
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		if err := l.find(); err != nil {
			return err
		}
		resp, err := l.ask(req)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode); err != nil {
			return err
		}
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Version, fetch.Group = 5, keptGroup
		resp, err = l.ask(fetch)
		if err != nil {
			return err
		}
		r := resp.(*kmsg.OffsetFetchResponse)
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return err
		}
		if len(r.Topics) != 1 || r.Topics[0].Partitions[0].Offset != l.commits {
			return fmt.Errorf("committed %d, read %+v", l.commits, r.Topics)
		}
		return nil
	})
}

func (l *life) find() error {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKey = 2, keptGroup
	resp, err := l.ask(req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.(*kmsg.FindCoordinatorResponse).ErrorCode)
}

// join is a round of a group's only member, from its first request to its last.
func (l *life) join() error {
	return retry("a round of a group", func() error {
		j := kmsg.NewPtrJoinGroupRequest()
		j.Version, j.Group, j.SessionTimeoutMillis, j.RebalanceTimeoutMillis, j.ProtocolType = 3, keptGroup, 10_000, 1000, "consumer"
		proto := kmsg.NewJoinGroupRequestProtocol()
		proto.Name = "range"
		j.Protocols = append(j.Protocols, proto)
		resp, err := l.ask(j)
		if err != nil {
			return err
		}
		joined := resp.(*kmsg.JoinGroupResponse)
		if err := kerr.ErrorForCode(joined.ErrorCode); err != nil {
			return err
		}
		s := kmsg.NewPtrSyncGroupRequest()
		s.Version, s.Group, s.MemberID, s.Generation = 2, keptGroup, joined.MemberID, joined.Generation
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = joined.MemberID, []byte("mine")
		s.GroupAssignment = append(s.GroupAssignment, a)
		if resp, err = l.ask(s); err != nil {
			return err
		}
		if got := resp.(*kmsg.SyncGroupResponse); got.ErrorCode != 0 || string(got.MemberAssignment) != "mine" {
			return fmt.Errorf("assigned %q, %w", got.MemberAssignment, kerr.ErrorForCode(got.ErrorCode))
		}
		h := kmsg.NewPtrHeartbeatRequest()
		h.Version, h.Group, h.MemberID, h.Generation = 2, keptGroup, joined.MemberID, joined.Generation
		if resp, err = l.ask(h); err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.(*kmsg.HeartbeatResponse).ErrorCode); err != nil {
			return err
		}
		leave := kmsg.NewPtrLeaveGroupRequest()
		leave.Version, leave.Group, leave.MemberID = 2, keptGroup, joined.MemberID
		if resp, err = l.ask(leave); err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.(*kmsg.LeaveGroupResponse).ErrorCode)
	})
}
