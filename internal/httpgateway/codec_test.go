package httpgateway

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
)

// Many small objects take much memory: they are refused before they are made.
func TestCodecsBoundObjects(t *testing.T) {
	few, many := new(v1.ProduceRequest), new(v1.ProduceRequest)
	for range maxRecords {
		few.Records = append(few.Records, &v1.Record{ValueText: proto.String(`{"a":[1,2,3],"b":"\"{,{,"}`)})
	}
	for range 100 {
		many.Records = append(many.Records, &v1.Record{Headers: make([]*v1.Header, 0, 1100)})
		for range 1100 {
			r := many.Records[len(many.Records)-1]
			r.Headers = append(r.Headers, &v1.Header{})
		}
	}
	for _, c := range []interface {
		Marshal(any) ([]byte, error)
		Unmarshal([]byte, any) error
	}{protoCodec{}, jsonCodec{"json"}} {
		small, err := c.Marshal(few)
		if err != nil {
			t.Fatal(err)
		}
		got := new(v1.ProduceRequest)
		if err := c.Unmarshal(small, got); err != nil || !proto.Equal(few, got) {
			t.Errorf("%T: %d records: %v", c, len(few.Records), err)
		}
		large, err := c.Marshal(many)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Unmarshal(large, new(v1.ProduceRequest)); !errors.Is(err, errElements) {
			t.Errorf("%T: %d bytes of empty headers: %v", c, len(large), err)
		}
	}
	for _, text := range []string{"[" + strings.Repeat("{},", maxElements+1), strings.Repeat(`{"x":`, 1000)} {
		if err := (jsonCodec{"json"}).Unmarshal([]byte(text), new(v1.ProduceRequest)); err == nil {
			t.Errorf("%.20s… was taken", text)
		}
	}
}

// A batch that was encoded reads the same, with every compression.
func TestBatchRoundTrip(t *testing.T) {
	msg := &v1.ProduceRequest{Records: []*v1.Record{
		{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 5000), Headers: []*v1.Header{{Key: "h", Value: []byte("x")}, {Key: "null"}}},
		{KeyText: proto.String("text"), ValueText: proto.String("")},
		{},
	}}
	for i, r := range msg.Records {
		if err := checkRecord(i, r); err != nil {
			t.Fatal(err)
		}
		r.Time = stampOf(int64(1_700_000_000_000 + 7*i))
	}
	for c := range v1.Compression_name {
		b := encodeBatch(msg.Records, v1.Compression(c), &v1.Producer{Id: 7, Epoch: 1, Sequence: 3})
		got, next, whole, err := decode(b, 2, 0, false)
		if err != nil || next != 3 || !whole || len(got) != 3 {
			t.Fatalf("compression %d: %d records, next %d, %v", c, len(got), next, err)
		}
		if string(got[0].Key) != "k" || len(got[0].Value) != 5000 || len(got[0].Headers) != 2 || string(got[0].Headers[0].Value) != "x" || got[0].Headers[1].Value != nil {
			t.Errorf("compression %d: %v", c, got[0])
		}
		if string(got[1].Key) != "text" || got[1].Value == nil || len(got[1].Value) != 0 || got[2].Key != nil || got[2].Value != nil {
			t.Errorf("compression %d: %v %v", c, got[1], got[2])
		}
		if got[2].Time.AsTime().UnixMilli() != 1_700_000_000_014 || got[2].Partition != 2 {
			t.Errorf("compression %d: %v", c, got[2])
		}
	}
}

// A response has a bound, also where one small batch holds much.
func TestDecodeInPieces(t *testing.T) {
	var records []*v1.Record
	for i := range 40 {
		records = append(records, &v1.Record{Value: bytes.Repeat([]byte{byte(i)}, 100<<10), Time: stampOf(1)})
	}
	b := encodeBatch(records, v1.Compression_COMPRESSION_ZSTD, nil)
	from, pieces := int64(0), 0
	for whole := false; !whole; pieces++ {
		var got []*v1.Consumed
		var err error
		if got, from, whole, err = decode(b, 0, from, false); err != nil {
			t.Fatal(err)
		}
		if sizeOf(got) > chunkBytes+200<<10 {
			t.Errorf("%d bytes in one response", sizeOf(got))
		}
		if len(got) > 0 && got[len(got)-1].Offset != from-1 {
			t.Errorf("ends at %d and goes on at %d", got[len(got)-1].Offset, from)
		}
	}
	if from != 40 || pieces < 4 {
		t.Errorf("%d records in %d pieces", from, pieces)
	}
}
