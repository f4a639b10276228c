package gateway

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
)

// Level is the body of PUT /log/level, and the answer.
type Level struct {
	Level string `json:"level"` // debug, info, warn or error
}

func logLevel(mux *http.ServeMux, opts Options) {
	now := func() Level { return Level{strings.ToLower(opts.LogLevel.Level().String())} }
	mux.HandleFunc("GET /log/level", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, opts, http.StatusOK, func(*http.Request) (any, error) { return now(), nil })
	})
	mux.HandleFunc("PUT /log/level", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, opts, http.StatusOK, func(r *http.Request) (any, error) {
			if err := byProgram(r); err != nil {
				return nil, err
			}
			var want Level
			if err := body(r, &want); err != nil {
				return nil, err
			}
			var level slog.Level
			if err := level.UnmarshalText([]byte(want.Level)); err != nil {
				return nil, refusal(http.StatusBadRequest, fmt.Sprintf("the level is %.20q", want.Level), "it must be debug, info, warn or error")
			}
			opts.LogLevel.Set(level)
			opts.Logger.Warn("the log's level was changed", "level", level, "remote", r.RemoteAddr)
			return now(), nil
		})
	})
}
