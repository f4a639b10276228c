package gateway

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"time"
)

// maxVerifyOptions bounds the body of a request, in bytes.
const maxVerifyOptions = 256 << 10

// verify answers with one JSON object a line, as they come; the last one has
// "done" or "error". It lasts as long as there is something to verify.
func verify(w http.ResponseWriter, r *http.Request, opts Options) {
	// A page in a browser can't send this type to another site without asking.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		text(w, http.StatusUnsupportedMediaType, "send options as application/json")
		return
	}
	options, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxVerifyOptions))
	if err != nil {
		text(w, http.StatusRequestEntityTooLarge, "the options can't be read or are too long")
		return
	}
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Time{}); err != nil { // or the request ends when its own has passed
		text(w, http.StatusInternalServerError, "can't stream")
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	emit := func(event any) error {
		line, err := json.Marshal(event)
		if err != nil {
			return err
		}
		if err := rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		return rc.Flush()
	}
	if err := opts.Verify(r.Context(), options, emit); err != nil && r.Context().Err() == nil {
		opts.Logger.Info("a verification of the cluster ended early", "err", err)
		_ = emit(struct { // an error means that the client has gone
			Error string `json:"error"`
		}{err.Error()})
	}
}
