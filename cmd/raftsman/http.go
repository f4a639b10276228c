package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/gateway"
)

// httpFlags say how to reach a node through HTTP.
type httpFlags struct {
	addrs []string
	first int // the one that answered last, to be asked first
}

func (h *httpFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&h.addrs, "http", []string{"127.0.0.1:8080"},
		"HTTP addresses of one or more nodes, HOST:PORT,...; the first that answers is asked (environment: RAFTSMAN_HTTP)")
}

const (
	// maxAnswer bounds what is read from a node: cluster.json of a large cluster.
	maxAnswer = 64 << 20
	// nextTimeout is how long a node may take while there is another one to ask.
	nextTimeout = 5 * time.Second
)

// noAnswerError says that no node answered.
type noAnswerError struct{ error }

func (e noAnswerError) Unwrap() error { return e.error }

// answerError is an answer that is none.
type answerError struct {
	status  int
	request string // "GET /ops"
	said    gateway.Error
}

func (e *answerError) Error() string {
	if e.said.Remedy != "" {
		return e.said.Error()
	}
	return fmt.Sprintf("%s: %d %s", e.request, e.status, e.said.Text)
}

// answered says whether a node gave an answer with this status.
func answered(err error, status int) bool {
	var e *answerError
	return errors.As(err, &e) && e.status == status
}

// addresses are those of the flag, else of the environment.
func (h *httpFlags) addresses(cmd *cobra.Command) ([]string, error) {
	list := h.addrs
	if env := os.Getenv("RAFTSMAN_HTTP"); env != "" && !cmd.Flags().Changed("http") {
		list = strings.Split(env, ",")
	}
	var addrs []string
	for _, a := range list {
		if a = strings.TrimSpace(a); a != "" {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return nil, usageError{errors.New("--http: no address")}
	}
	return addrs, nil
}

// get asks the first node that answers for a path and returns the answer's
// status and body.
func (h *httpFlags) get(cmd *cobra.Command, path string, timeout time.Duration) (status int, body []byte, err error) {
	return h.ask(cmd, http.MethodGet, path, nil, timeout, func(int) bool { return true })
}

// ask tries the addresses in turn until one gives an answer that is good enough,
// and returns the last answer if none was.
func (h *httpFlags) ask(cmd *cobra.Command, method, path string, send []byte, timeout time.Duration, enough func(status int) bool) (status int, body []byte, err error) {
	addrs, err := h.addresses(cmd)
	if err != nil {
		return 0, nil, err
	}
	defer waiting(cmd, "a node's answer")()
	var failed []string
	for i := range addrs {
		at := (h.first + i) % len(addrs)
		limit := timeout
		if i < len(addrs)-1 {
			limit = min(timeout, nextTimeout)
		}
		s, b, err := askOne(cmd, method, addrs[at], path, send, limit)
		var usage usageError
		switch {
		case err == nil && enough(s):
			h.first = at
			return s, b, nil
		case err == nil:
			status, body = s, b
		case errors.As(err, &usage) || cmd.Context().Err() != nil:
			return 0, nil, err
		default:
			failed = append(failed, fmt.Sprintf("%s: %v", addrs[at], err))
		}
	}
	if status != 0 {
		return status, body, nil
	}
	if len(failed) == 1 {
		return 0, nil, noAnswerError{fmt.Errorf("can't reach the node at %s; is it running? --http or RAFTSMAN_HTTP name the nodes' HTTP addresses", failed[0])}
	}
	return 0, nil, noAnswerError{fmt.Errorf("no node answers:\n  %s\nare they running? --http or RAFTSMAN_HTTP name the nodes' HTTP addresses", strings.Join(failed, "\n  "))}
}

// nodeClient gives up early on an address where nobody is.
var nodeClient = &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, Proxy: http.ProxyFromEnvironment}}

func askOne(cmd *cobra.Command, method, addr, path string, send []byte, timeout time.Duration) (status int, body []byte, err error) {
	kind := "application/json"
	if method == http.MethodGet {
		kind = ""
	}
	return askNode(cmd.Context(), method, addr, path, kind, send, timeout)
}

// askNode sends a request with a content type, if it is not "", to one node.
func askNode(parent context.Context, method, addr, path, kind string, send []byte, timeout time.Duration) (status int, body []byte, err error) {
	u, err := httpURL(addr, path)
	if err != nil {
		return 0, nil, usageError{fmt.Errorf("--http: %w", err)}
	}
	ctx, cancel := context.WithTimeout(parent, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(send))
	if err != nil {
		return 0, nil, usageError{fmt.Errorf("--http: %w", err)}
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := nodeClient.Do(req)
	if err == nil {
		defer resp.Body.Close()
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	}
	if err != nil {
		var why *url.Error
		if errors.As(err, &why) {
			err = why.Err
		}
		if ctx.Err() != nil && parent.Err() == nil {
			err = fmt.Errorf("no answer within %s", timeout)
		}
		return 0, nil, err
	}
	return resp.StatusCode, body, nil
}

// getJSON asks for a path and decodes the answer.
func (h *httpFlags) getJSON(cmd *cobra.Command, path string, into any) error {
	return h.call(cmd, http.MethodGet, path, nil, into)
}

// call makes a request and decodes the answer. A node that can't do it now
// (503) is no reason not to ask the next one. Errors: answerError, noAnswerError.
func (h *httpFlags) call(cmd *cobra.Command, method, path string, in, into any) error {
	var send []byte
	if in != nil {
		var err error
		if send, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
	}
	status, body, err := h.ask(cmd, method, path, send, pingTimeout, func(status int) bool { return status != http.StatusServiceUnavailable })
	if err != nil {
		return err
	}
	if status >= 300 {
		e := &answerError{status: status, request: method + " " + path}
		if json.Unmarshal(body, &e.said) != nil || e.said.Text == "" {
			e.said = gateway.Error{Text: firstLine(body)}
		}
		return e
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s %s: not what a raftsman node answers; is --http right? %w", method, path, err)
	}
	return nil
}

// httpURL makes a URL of HOST:PORT or http://HOST:PORT.
func httpURL(addr, path string) (string, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(strings.TrimRight(addr, "/") + path)
	if err != nil {
		return "", fmt.Errorf("%q is not HOST:PORT", addr)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("%q is not HOST:PORT or a URL with http or https", addr)
	}
	return u.String(), nil
}

func firstLine(body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(body[:min(len(body), 500)])), "\n")
	return line
}
