package clients

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	order "encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var record = flag.Bool("record", false, "record the clients' requests for the fuzzer")

const (
	recordedFile = "../../internal/kafka/testdata/requests.txt"
	recordedSize = 2 << 10 // of one request, at most
	recordedMany = 4       // of one client, API and version

	recordedHead = `# What real clients send, for FuzzRecorded: client, API, version, and the request from
# its API key to its end in base64. Of each client, API and version there are up to four
# of different shape. Made by "make record-requests".
`
)

// TestRecord runs every feature with every client through proxies that keep what
// the clients send. Each client has a listener of its own on each node, whose
// advertised address is a proxy's.
func TestRecord(t *testing.T) {
	if !*record {
		t.Skip("records requests when told to: make record-requests")
	}
	rec := &recorder{kept: map[string][]byte{}, brokers: map[string][]string{}}
	inner := ports(t, 3*len(clientNames))
	c := startNodes(t, func(node int) []string {
		extra := []string{"--auto-create-topics"}
		for i, client := range clientNames {
			target := fmt.Sprintf("127.0.0.1:%d", inner[node*len(clientNames)+i])
			extra = append(extra, "--kafka-listener", fmt.Sprintf("%s=%s,advertise=%s", client, target, rec.proxy(t, client, target)))
		}
		return extra
	})
	through = rec.brokers
	t.Cleanup(func() { through = nil })
	t.Run("clients", func(t *testing.T) {
		for _, client := range clientNames {
			t.Run(client, func(t *testing.T) {
				t.Parallel()
				for i, f := range features {
					name := fmt.Sprintf("%s-%d", client, i)
					ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
					t.Logf("%-40s %v", f.name, f.try(ctx, trial{cluster: c, client: client, topic: name, group: name}))
					cancel()
				}
			})
		}
	})
	rec.write(t)
}

// recorder keeps the smallest request of each client, API, version and shape.
type recorder struct {
	brokers map[string][]string // by client; the proxies in front of its listeners

	mu   sync.Mutex
	kept map[string][]byte // by client, API, version and shape, tabs between them
}

// proxy listens in front of a client's listener and returns its own address.
func (r *recorder) proxy(t testing.TB, client, target string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			go r.pass(client, in, target)
		}
	}()
	r.brokers[client] = append(r.brokers[client], ln.Addr().String())
	return ln.Addr().String()
}

// pass carries a connection's bytes both ways, and reads along.
func (r *recorder) pass(client string, in net.Conn, target string) {
	defer in.Close()
	out, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		_, _ = io.Copy(in, out) // the end of either side is the end of both
		in.Close()
	}()
	read, written := io.Pipe()
	go r.listen(client, read)
	_, _ = io.Copy(out, io.TeeReader(in, written))
	written.Close()
}

func (r *recorder) listen(client string, from io.Reader) {
	for {
		var head [4]byte
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return
		}
		n := int64(order.BigEndian.Uint32(head[:]))
		if n > recordedSize {
			if _, err := io.CopyN(io.Discard, from, n); err != nil {
				return
			}
			continue
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(from, frame); err != nil {
			return
		}
		r.take(client, frame)
	}
}

func (r *recorder) take(client string, frame []byte) {
	key, version := int16(order.BigEndian.Uint16(frame)), int16(order.BigEndian.Uint16(frame[2:]))
	req := kmsg.RequestForKey(key)
	if req == nil {
		return
	}
	req.SetVersion(version)
	body := frame[10:]
	if n := int16(order.BigEndian.Uint16(frame[8:])); n > 0 {
		body = body[n:]
	}
	if req.IsFlexible() {
		body = body[1:] // no client sends tags in the header
	}
	if req.ReadFrom(body) != nil {
		return
	}
	name := fmt.Sprintf("%s\t%s\t%d\t%s", client, kmsg.NameForKey(key), version, shapeOf(reflect.ValueOf(req).Elem(), "Request"))
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.kept[name]; !ok || smaller(frame, old) < 0 {
		r.kept[name] = frame
	}
}

func smaller(a, b []byte) int { return cmp.Or(cmp.Compare(len(a), len(b)), bytes.Compare(a, b)) }

// shapeOf tells requests apart by what is there and what is not: numbers by their
// sign, strings and arrays by whether they are null, empty or longer, arrays by
// their first element, record batches by their codec and kind of producer.
func shapeOf(v reflect.Value, field string) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "0"
		}
		return shapeOf(v.Elem(), field)
	case reflect.Struct:
		var b strings.Builder
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Version" && name != "UnknownTags" {
				b.WriteString(shapeOf(v.Field(i), name))
			}
		}
		return "{" + b.String() + "}"
	case reflect.Slice:
		switch {
		case v.IsNil():
			return "0"
		case v.Len() == 0:
			return "[]"
		case field == "Records" && v.Len() >= 61:
			batch := v.Bytes()
			return fmt.Sprintf("b%d%v", batch[22]&7, int64(order.BigEndian.Uint64(batch[43:])) >= 0)
		case v.Type().Elem().Kind() == reflect.Uint8:
			return "y"
		}
		return fmt.Sprintf("[%s%v]", shapeOf(v.Index(0), field), v.Len() > 1)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return [...]string{"-", "0", "+"}[1+cmp.Compare(v.Int(), 0)]
	case reflect.String:
		return [...]string{"e", "s"}[min(v.Len(), 1)]
	case reflect.Bool:
		return fmt.Sprint(v.Bool())
	}
	return "x"
}

// write writes up to recordedMany requests of each client, API and version, from
// the smallest to the largest.
func (r *recorder) write(t *testing.T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	groups := map[string][][]byte{}
	for name, frame := range r.kept {
		f := strings.Split(name, "\t")
		id := strings.Join(f[:3], " ")
		groups[id] = append(groups[id], frame)
	}
	var lines []string
	apis := map[string]bool{}
	for id, frames := range groups {
		slices.SortFunc(frames, smaller)
		apis[strings.Fields(id)[1]] = true
		many := min(len(frames), recordedMany)
		for i := range many {
			at := i * (len(frames) - 1) / max(many-1, 1)
			lines = append(lines, id+" "+base64.StdEncoding.EncodeToString(frames[at]))
		}
	}
	slices.Sort(lines)
	if err := os.MkdirAll(filepath.Dir(recordedFile), 0o755); err != nil {
		t.Fatal(err)
	}
	text := recordedHead + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(recordedFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d requests of %d APIs, %d bytes", len(lines), len(apis), len(text))
}
