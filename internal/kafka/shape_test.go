package kafka

import (
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets every field of a request to something that is not its default.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			v.Addr().Interface().(*kmsg.Tags).Set(77, []byte("unknown"))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(5)
	case reflect.Uint8:
		v.SetUint(5)
	default:
		panic("BUG: " + v.Kind().String())
	}
}

// Every shape fits what kmsg encodes: it takes all of the request, and no
// prefix of it.
func TestShapesMatchCodec(t *testing.T) {
	r := newRig(t, nil)
	for _, a := range r.srv.apis.rows {
		for v := a.min; v <= a.max; v++ {
			req := a.newRequest()
			fill(reflect.ValueOf(req).Elem())
			req.SetVersion(v)
			if a.flexible(v) != req.IsFlexible() {
				t.Errorf("%s version %d: flexible is %v", a.name, v, a.flexible(v))
			}
			body := req.AppendTo(nil)
			w := walker{src: body, version: v, flexible: req.IsFlexible(), most: maxElements}
			w.structure(a.shape)
			if w.err != nil || len(w.src) != 0 {
				t.Errorf("%s version %d: %v, %d of %d bytes left", a.name, v, w.err, len(w.src), len(body))
			}
			for n := range len(body) {
				if checkShape(a.shape, body[:n], v, req.IsFlexible()) == nil {
					t.Errorf("%s version %d: %d of %d bytes are enough", a.name, v, n, len(body))
				}
			}
		}
	}
}

func TestShapeRefusesFalseCounts(t *testing.T) {
	shape := mustShape("[{ s [4] }] 4 <1: 4 8>")
	count := binary.BigEndian.AppendUint32(nil, 1<<30)
	huge := append(count, make([]byte, 100)...)
	many := append(binary.BigEndian.AppendUint32(nil, maxElements+1), make([]byte, 6*(maxElements+2))...)
	for _, c := range []struct {
		name     string
		body     []byte
		flexible bool
		want     error
	}{
		{"array longer than the frame", huge, false, errTruncated},
		{"too many elements", many, false, errTooMany},
		{"four billion tags", []byte{1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}, true, errTruncated},
		{"tag past the end", []byte{1, 0, 0, 0, 0, 1, 9, 50, 0}, true, errTruncated},
		{"four billion tags in a known tag", append([]byte{1, 0, 0, 0, 0, 1, 1, 17}, append(make([]byte, 12), 0xff, 0xff, 0xff, 0xff, 0x0f)...), true, errTruncated},
		{"empty", []byte{1, 0, 0, 0, 0, 0}, true, nil},
		{"null array", []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, false, nil},
		{"bytes after the end", []byte{1, 0, 0, 0, 0, 0, 9, 9}, true, nil},
	} {
		if err := checkShape(shape, c.body, 0, c.flexible); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
