package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/raftsman/raftsman/internal/cluster"
)

// maxOp bounds the body of a request that changes something.
const maxOp = 64 << 10

// Error is the body of an answer that is none.
type Error struct {
	Status int    `json:"-"`
	Text   string `json:"error"`
	Remedy string `json:"remedy,omitempty"`
}

func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Text
	}
	return e.Text + "; " + e.Remedy
}

func refusal(status int, text, remedy string) error { return &Error{status, text, remedy} }

// answer sends what f returns as JSON, whole or not at all.
func answer(w http.ResponseWriter, r *http.Request, opts Options, status int, f func(*http.Request) (any, error)) {
	value, err := f(r)
	if err != nil {
		e := explained(err)
		if e.Status == http.StatusInternalServerError {
			opts.Logger.Error("a request of an operator failed", "method", r.Method, "path", r.URL.Path, "err", err)
		}
		if e.Status == http.StatusServiceUnavailable {
			after := "2" // seconds; etcd is away or has a new leader
			if errors.Is(err, cluster.ErrFrozen) {
				after = "30" // people have to do something
			}
			w.Header().Set("Retry-After", after)
		}
		value, status = e, e.Status
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		opts.Logger.Error("can't encode an answer as JSON", "path", r.URL.Path, "err", err)
		text(w, http.StatusInternalServerError, "can't encode the answer as JSON")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(buf.Bytes()) // an error means that the client has gone
}

// explained gives an error its status and says what to do about it.
func explained(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	for _, e := range []struct {
		is     error
		status int
		remedy string
	}{
		{cluster.ErrOpUnknown, http.StatusNotFound, "raftsman ops list shows those there are"},
		{cluster.ErrTopicUnknown, http.StatusNotFound, "raftsman topic list shows those there are"},
		{cluster.ErrOpExists, http.StatusConflict, "choose another id, or leave it out"},
		{cluster.ErrOpEnded, http.StatusConflict, "ask for the opposite: undrain a node, or move the partition back"},
		{cluster.ErrFrozen, http.StatusServiceUnavailable, "raftsman cluster health says what to do"},
		{cluster.ErrUnavailable, http.StatusServiceUnavailable, "ask again under the same id when etcd answers; raftsman cluster health"},
	} {
		if errors.Is(err, e.is) {
			return &Error{e.status, err.Error(), e.remedy}
		}
	}
	return &Error{http.StatusInternalServerError, err.Error(), "look at the node's log"}
}

// byProgram refuses what a web page may have sent: see the package's comment.
func byProgram(r *http.Request) error { return byProgramAs(r, "application/json") }

// byProgramAs is byProgram for another content type, one that a page can't send
// without being asked first.
func byProgramAs(r *http.Request, want string) error {
	if origin := r.Header.Get("Origin"); origin != "" {
		return refusal(http.StatusForbidden, fmt.Sprintf("this comes from a web page (Origin %.100q)", origin), "use raftsman, or curl")
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return refusal(http.StatusForbidden, fmt.Sprintf("this comes from a web page (Sec-Fetch-Site %.20q)", site), "use raftsman, or curl")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != want {
		return refusal(http.StatusUnsupportedMediaType, fmt.Sprintf("the content type is %.100q", r.Header.Get("Content-Type")), "send Content-Type: "+want)
	}
	return nil
}

// body decodes the one JSON object of a request. A field that is unknown is an
// error: it may be a misspelt one that matters.
func body(r *http.Request, into any) error {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxOp+1))
	if err != nil {
		return refusal(http.StatusBadRequest, "the body can't be read: "+err.Error(), "send it again")
	}
	if len(data) > maxOp {
		return refusal(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", maxOp), "send less")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return refusal(http.StatusBadRequest, "the body makes no sense: "+err.Error(), "send one JSON object, as docs/operations/nodes.md shows")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return refusal(http.StatusBadRequest, "there is more than one JSON object in the body", "send one")
	}
	return nil
}
