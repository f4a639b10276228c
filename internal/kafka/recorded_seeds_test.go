package kafka_test

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// What clients really send, by test/clients (make record-requests).
//
//go:embed testdata/requests.txt
var recordedText string

// seed is a request to begin with.
type seed struct {
	client  string // who sent it; "filled": nobody, every field is set by fill
	key     int16
	version int16
	frame   []byte // from the API key to the end
	tame    []byte // the same with names that mean something to the node
}

// What stands in a tame seed for something that only the running node knows, all
// of fixed length.
const (
	madeTopic   = "t" // has two partitions and some records
	spareTopic  = "c" // comes and goes
	holdGroup   = "fuzz-group-00"
	holdClient  = "fuzz"
	holdMember  = "fuzz-00000000-0000-4000-8000-000000000000"
	holdTopicID = "\xf0\xf1topic id  \xf2\xf3\xf4\xf5"
	holdSession = "\x5e\x55\x10\x47"
)

var seeds = sync.OnceValue(func() (all []seed) {
	seen := map[string]bool{}
	add := func(s seed) {
		if !seen[string(s.frame)] {
			seen[string(s.frame)] = true
			all = append(all, s)
		}
	}
	for line := range strings.Lines(recordedText) {
		f := strings.Fields(line)
		if strings.HasPrefix(line, "#") || len(f) == 0 {
			continue
		}
		frame, err := base64.StdEncoding.DecodeString(f[len(f)-1])
		if err != nil || len(f) != 4 || len(frame) < 10 {
			panic("a bad line in testdata/requests.txt: " + line)
		}
		s := seed{client: f[0], key: int16(binary.BigEndian.Uint16(frame)), version: int16(binary.BigEndian.Uint16(frame[2:])), frame: frame, tame: frame}
		if req, _, ok := kafka.DecodeFrame(frame); ok {
			tame(reflect.ValueOf(req).Elem(), "", s.key)
			s.tame = frameOf(req)
		}
		add(s)
	}
	for _, a := range kafka.APIs() {
		for v := a.Min; v <= a.Max; v++ {
			for _, full := range []bool{true, false} {
				req := kmsg.RequestForKey(a.Key)
				req.SetVersion(v)
				if d, ok := req.(interface{ Default() }); ok {
					d.Default()
				}
				if full {
					fill(reflect.ValueOf(req).Elem(), "", a.Key)
				}
				frame := frameOf(req)
				add(seed{client: "filled", key: a.Key, version: v, frame: frame, tame: frame})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b seed) int { return int(a.key) - int(b.key) })
	return all
})

// frameOf is a request from its API key on. Its correlation id is set later.
func frameOf(req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID(holdClient)).AppendRequest(nil, req, 1)[4:]
}

// topicNames are the topics of requests that make, change or remove one.
func topicName(key int16) string {
	switch key {
	case 19, 20, 21, 37, 45:
		return spareTopic
	}
	return madeTopic
}

// tame gives a recorded request names that the node knows.
func tame(v reflect.Value, field string, key int16) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			tame(v.Elem(), field, key)
		}
	case reflect.Struct:
		if v.Type() != reflect.TypeFor[kmsg.Tags]() {
			for i := range v.NumField() {
				tame(v.Field(i), v.Type().Field(i).Name, key)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				tame(v.Index(i), field, key)
			}
		}
	case reflect.Array:
		if field == "TopicID" && !v.IsZero() {
			reflect.Copy(v, reflect.ValueOf([]byte(holdTopicID)))
		}
	case reflect.String:
		if name, ok := standIn(field, key); ok && v.Len() > 0 {
			v.SetString(name)
		}
	case reflect.Int32:
		switch {
		case field == "Generation" && v.Int() > 0:
			v.SetInt(1)
		case field == "RebalanceTimeoutMillis":
			v.SetInt(1000)
		case field == "Partition" || field == "Partitions":
			v.SetInt(v.Int() & 1)
		case field == "SessionID" && v.Int() != 0:
			v.SetInt(int64(binary.BigEndian.Uint32([]byte(holdSession))))
		case field == "NumPartitions":
			v.SetInt(min(v.Int(), 2))
		case field == "MaxBytes" || field == "PartitionMaxBytes":
			v.SetInt(min(v.Int(), 1<<20))
		}
	}
}

// standIn is what a string field of a tame request has.
func standIn(field string, key int16) (string, bool) {
	switch field {
	case "Topic", "Topics", "TopicNames", "ResourceName":
		return topicName(key), true
	case "Group", "Groups", "CoordinatorKey", "CoordinatorKeys":
		return holdGroup, true
	case "MemberID":
		return holdMember, true
	}
	return "", false
}

// fill gives every field of a request a value that makes sense, or at least some.
func fill(v reflect.Value, field string, key int16) {
	switch v.Kind() {
	case reflect.Pointer:
		if field == "TransactionID" || field == "InstanceID" {
			return // no transaction, and no static member
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), field, key)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			return
		}
		if d, ok := v.Addr().Interface().(interface{ Default() }); ok && field != "" {
			d.Default()
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				fill(v.Field(i), v.Type().Field(i).Name, key)
			}
		}
	case reflect.Slice:
		switch {
		case field == "ReplicaAssignment" || field == "Assignment":
		case field == "Records":
			v.SetBytes(kafka.OneRecord(40))
		case v.Type().Elem().Kind() == reflect.Uint8:
			m := kmsg.NewConsumerMemberMetadata()
			m.Topics = []string{madeTopic}
			v.SetBytes(m.AppendTo(nil))
		default:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), field, key)
		}
	case reflect.Array:
		reflect.Copy(v, reflect.ValueOf([]byte(holdTopicID)))
	case reflect.String:
		v.SetString(text(field, key))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if n, ok := numbers[field]; ok {
			v.SetInt(n)
		}
	}
}

func text(field string, key int16) string {
	if field == "MemberID" && key == 11 {
		return "" // a new member
	}
	if s, ok := standIn(field, key); ok {
		return s
	}
	switch {
	case field == "Name" && (key == 19 || key == 32 || key == 33 || key == 44), field == "ConfigNames":
		return "retention.ms"
	case field == "Name", field == "Protocol":
		return "range"
	case field == "Value":
		return "3600000"
	case field == "ProtocolType":
		return "consumer"
	case field == "ClientSoftwareName", field == "ClientSoftwareVersion":
		return "1.0"
	}
	return "x"
}

var numbers = map[string]int64{
	"Acks": -1, "TimeoutMillis": 5000, "MaxWaitMillis": 10, "MinBytes": 1, "MaxBytes": 1 << 20, "PartitionMaxBytes": 1 << 16,
	"CurrentLeaderEpoch": -1, "FetchOffset": 1, "LastFetchedEpoch": -1, "LogStartOffset": -1, "Timestamp": -1, "MaxNumOffsets": 1,
	"SessionTimeoutMillis": 6000, "RebalanceTimeoutMillis": 1000, "Generation": 1, "NumPartitions": 2, "ReplicationFactor": 1,
	"Count": 3, "ResourceType": 2, "Replicas": 1, "ProducerID": -1, "ProducerEpoch": -1, "Offset": 1, "RetentionTimeMillis": -1,
}

// sequences are requests that go together, of one client each.
func sequences() (all [][]int) {
	by := map[string]map[int16]int{}
	for i, s := range seeds() {
		if by[s.client] == nil {
			by[s.client] = map[int16]int{}
		}
		by[s.client][s.key] = i
	}
	for _, client := range slices.Sorted(maps.Keys(by)) {
		for _, keys := range [][]int16{
			{18, 10, 11, 11, 14, 12, 9, 8, 9, 13}, {3, 22, 0, 0, 2, 1, 1}, {19, 37, 32, 44, 32, 21, 20}, {11, 14, 8, 15, 16, 47, 13, 42},
		} {
			var ids []int
			for _, k := range keys {
				if i, ok := by[client][k]; ok {
					ids = append(ids, i)
				}
			}
			if len(ids) > 1 {
				all = append(all, ids)
			}
		}
	}
	return all
}

// Every version of every API that the server advertises has a seed, and each of
// these is sound.
func TestEveryVersionHasASeed(t *testing.T) {
	type id struct{ key, version int16 }
	have := map[id]bool{}
	recorded := map[id]bool{}
	for _, s := range seeds() {
		if s.client == "filled" {
			if _, _, ok := kafka.DecodeFrame(s.frame); !ok {
				t.Errorf("%s version %d: the filled request does not decode", kmsg.NameForKey(s.key), s.version)
			}
		} else {
			recorded[id{s.key, s.version}] = true
		}
		have[id{s.key, s.version}] = true
	}
	for _, a := range kafka.APIs() {
		for v := a.Min; v <= a.Max; v++ {
			if !have[id{a.Key, v}] {
				t.Errorf("%s version %d has no seed", a.Name, v)
			}
		}
	}
	if len(recorded) < 50 {
		t.Errorf("only %d versions of APIs were recorded", len(recorded))
	}
}

// Every field of a filled request is found, and no byte between them is left over.
func TestSpans(t *testing.T) {
	for _, s := range seeds() {
		_, body, ok := kafka.DecodeFrame(s.tame)
		if !ok {
			continue
		}
		at := body
		for _, x := range kafka.Spans(s.tame) {
			if x.At < body || x.End < x.At || x.Contents < x.End || x.Contents > len(s.tame) {
				t.Fatalf("%s version %d: a field at %+v of %d bytes", kmsg.NameForKey(s.key), s.version, x, len(s.tame))
			}
			end := x.Contents
			if x.Kind == '[' {
				end = x.End // its elements have spans of their own
			}
			if x.At != at {
				t.Fatalf("%s version %d from %s: byte %d is in no field: %x", kmsg.NameForKey(s.key), s.version, s.client, at, s.tame)
			}
			at = end
		}
		if at != len(s.tame) {
			t.Errorf("%s version %d from %s: %d bytes left over: %x", kmsg.NameForKey(s.key), s.version, s.client, len(s.tame)-at, s.tame)
		}
		if !bytes.HasPrefix(s.tame, s.frame[:4]) {
			t.Errorf("%s version %d: taming changed the API", kmsg.NameForKey(s.key), s.version)
		}
	}
}
