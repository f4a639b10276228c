package httpgateway

import (
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxElements bounds the objects of a request: each takes much more memory than the
// two or three bytes that it may have on the wire.
const maxElements = 100_000

var errElements = fmt.Errorf("the request has more than %d objects; send fewer records at once", maxElements)

// codecs are connect's own with a bound.
func codecs() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithCodec(protoCodec{}), connect.WithCodec(jsonCodec{"json"}), connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
	}
}

var errNotProto = errors.New("BUG: not a protobuf message")

type protoCodec struct{}

// Name implements connect.Codec.
func (protoCodec) Name() string { return "proto" }

// IsBinary says how GET requests have messages.
func (protoCodec) IsBinary() bool { return true }

// Marshal implements connect.Codec.
func (protoCodec) Marshal(message any) ([]byte, error) {
	return protoCodec{}.MarshalAppend(nil, message)
}

// MarshalAppend is Marshal into a buffer.
func (protoCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, errNotProto
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, m)
}

// MarshalStable gives equal messages equal bytes, for caches of GET requests.
func (protoCodec) MarshalStable(message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, errNotProto
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// Unmarshal implements connect.Codec.
func (protoCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return errNotProto
	}
	left := maxElements
	if err := countProto(data, m.ProtoReflect().Descriptor(), &left); err != nil {
		return err
	}
	return proto.Unmarshal(data, m)
}

// countProto takes the fields of a message, and those of the messages in it, off
// left.
func countProto(data []byte, of protoreflect.MessageDescriptor, left *int) error {
	for len(data) > 0 {
		num, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		size := protowire.ConsumeFieldValue(num, kind, data)
		if size < 0 {
			return protowire.ParseError(size)
		}
		if *left--; *left < 0 {
			return errElements
		}
		field := of.Fields().ByNumber(num)
		if kind == protowire.BytesType && field != nil && field.Message() != nil {
			inner, _ := protowire.ConsumeBytes(data)
			if err := countProto(inner, field.Message(), left); err != nil {
				return err
			}
		}
		data = data[size:]
	}
	return nil
}

type jsonCodec struct{ name string }

// Name implements connect.Codec.
func (c jsonCodec) Name() string { return c.name }

// IsBinary says how GET requests have messages.
func (jsonCodec) IsBinary() bool { return false }

// Marshal implements connect.Codec. Zeros and empty lists are there, so that scripts
// need not know them.
func (c jsonCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend is Marshal into a buffer.
func (jsonCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, errNotProto
	}
	return protojson.MarshalOptions{EmitDefaultValues: true}.MarshalAppend(dst, m)
}

// MarshalStable implements what GET needs.
func (c jsonCodec) MarshalStable(message any) ([]byte, error) { return c.Marshal(message) }

// Unmarshal implements connect.Codec. A field that is not known is an error: it may
// be a misspelt one that matters.
func (jsonCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return errNotProto
	}
	if len(data) == 0 {
		return errors.New("a JSON object is needed, at least {}")
	}
	if err := countJSON(data); err != nil {
		return err
	}
	return protojson.UnmarshalOptions{RecursionLimit: 100}.Unmarshal(data, m)
}

// countJSON bounds the objects and values of a text.
func countJSON(data []byte) error {
	left, quoted := maxElements, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '{' || c == ','):
			if left--; left < 0 {
				return errElements
			}
		}
	}
	return nil
}
