package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	sendTimeout  = 10 * time.Second // of one message: who takes longer is let go
	stateTimeout = 10 * time.Second
)

func (d *Dashboard) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", d.static)
	mux.HandleFunc("GET /ui/", d.static)
	data := func(pattern string, f http.HandlerFunc) { mux.HandleFunc("GET "+pattern, d.guard(f)) }
	data("/api/dashboard/events", d.events)
	data("/api/dashboard/state", d.once)
	data("/api/dashboard/figures", func(w http.ResponseWriter, _ *http.Request) {
		f, err := d.figures()
		if err != nil {
			refuse(w, http.StatusInternalServerError, err.Error(), "look at /metrics")
			return
		}
		reply(w, http.StatusOK, f)
	})
	data("/api/dashboard/offsets", d.shared(func(r *http.Request) (string, question, error) {
		topic := r.URL.Query().Get("topic")
		if topic == "" || len(topic) > maxName {
			return "", nil, errors.New("topic: the name of one is needed")
		}
		return "offsets " + topic, func(ctx context.Context, k *kafkaSide) (any, error) { return k.offsets(ctx, topic) }, nil
	}))
	data("/api/dashboard/groups", d.shared(func(*http.Request) (string, question, error) {
		return "groups", func(ctx context.Context, k *kafkaSide) (any, error) { return k.groups(ctx) }, nil
	}))
	data("/api/dashboard/group", d.shared(func(r *http.Request) (string, question, error) {
		name := r.URL.Query().Get("name")
		if len(name) > maxName {
			return "", nil, errors.New("name: it is too long for a group")
		}
		return "group " + name, func(ctx context.Context, k *kafkaSide) (any, error) { return k.group(ctx, name) }, nil
	}))
	data("/api/dashboard/records", d.shared(func(r *http.Request) (string, question, error) {
		topic := r.URL.Query().Get("topic")
		if topic == "" || len(topic) > maxName {
			return "", nil, errors.New("topic: the name of one is needed")
		}
		partition, err := number(r, "partition", -1, -1, 1<<30)
		if err != nil {
			return "", nil, err
		}
		count, err := number(r, "count", maxTail, 1, maxTail)
		if err != nil {
			return "", nil, err
		}
		return fmt.Sprintf("records %d %d %s", partition, count, topic), func(ctx context.Context, k *kafkaSide) (any, error) {
			return k.tail(ctx, topic, int32(partition), count)
		}, nil
	}))
	return mux
}

// maxName is as long as a name of a topic or group may be.
const maxName = 1 << 10

func number(r *http.Request, name string, without, least, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return without, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s must be a number from %d to %d", name, least, most)
	}
	return n, nil
}

// shared answers a question that the Kafka protocol answers.
func (d *Dashboard) shared(parse func(r *http.Request) (key string, q question, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key, q, err := parse(r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error(), "see docs/operations/dashboard.md")
			return
		}
		value, err := d.kafka.ask(r.Context(), key, q)
		var unknown unknownError
		switch {
		case errors.As(err, &unknown):
			refuse(w, http.StatusNotFound, err.Error(), "")
		case err != nil:
			w.Header().Set("Retry-After", "2")
			refuse(w, http.StatusServiceUnavailable, err.Error(), "raftsman cluster health says what is wrong")
		default:
			reply(w, http.StatusOK, value)
		}
	}
}

// events sends messages until the client goes or the node stops.
func (d *Dashboard) events(w http.ResponseWriter, r *http.Request) {
	watcher := d.hub.join()
	if watcher == nil {
		d.tooMany(w)
		return
	}
	defer d.hub.leave(watcher)
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Time{}); err != nil { // or the request ends when its own has passed
		refuse(w, http.StatusInternalServerError, "can't stream", "")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // of proxies
	for {
		select {
		case <-r.Context().Done():
			return
		case <-d.hub.done:
			return
		case body := <-watcher.c:
			if rc.SetWriteDeadline(time.Now().Add(sendTimeout)) != nil {
				return
			}
			if _, err := fmt.Fprintf(w, "data: %s\n\n", body); err != nil || rc.Flush() != nil {
				return
			}
		}
	}
}

// once sends the whole state.
func (d *Dashboard) once(w http.ResponseWriter, r *http.Request) {
	watcher := d.hub.join()
	if watcher == nil {
		d.tooMany(w)
		return
	}
	defer d.hub.leave(watcher)
	ctx, cancel := context.WithTimeout(r.Context(), stateTimeout)
	defer cancel()
	select {
	case body := <-watcher.c:
		w.Header().Set("Content-Type", "application/json")
		w.Write(body) // an error means that the client has gone
	case <-d.hub.done:
		refuse(w, http.StatusServiceUnavailable, "the node is stopping", "ask another node")
	case <-ctx.Done():
		refuse(w, http.StatusServiceUnavailable, "the state was not ready in time", "ask again")
	}
}

func (d *Dashboard) tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("%d pages are open on this node already, or it is stopping", maxWatchers), "close some, or open the dashboard of another node")
}

func reply(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"can't encode the answer as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body) // an error means that the client has gone
}

// refuse answers as the other paths of the HTTP port do.
func refuse(w http.ResponseWriter, status int, text, remedy string) {
	reply(w, status, struct {
		Error  string `json:"error"`
		Remedy string `json:"remedy,omitempty"`
	}{text, remedy})
}
