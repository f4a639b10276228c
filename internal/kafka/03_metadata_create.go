package kafka

import (
	"context"
	"errors"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
)

// maxAutoCreate bounds the topics that are being created because clients asked for
// their metadata. Others are created when somebody asks again.
const maxAutoCreate = 100

// creations are the topics that are being created because somebody asked for them.
type creations struct {
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
	ctx    context.Context // of the creations
	cancel context.CancelFunc
	busy   map[string]*creation
}

// creation is one topic's. err is there when done is closed.
type creation struct {
	done chan struct{}
	err  error
}

func newCreations() *creations {
	c := &creations{busy: make(map[string]*creation)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// begin lists the creations under way of some topics, and has create make those of
// the others for which there is room.
func (c *creations) begin(names []string, create func(ctx context.Context, names []string) []error) (under []*creation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	under = make([]*creation, len(names))
	var fresh []string
	var begun []*creation
	for i, name := range names {
		if under[i] = c.busy[name]; under[i] != nil || c.closed || len(c.busy) >= maxAutoCreate {
			continue
		}
		one := &creation{done: make(chan struct{})}
		c.busy[name] = one
		fresh, begun = append(fresh, name), append(begun, one)
	}
	if len(fresh) > 0 {
		c.wg.Go(func() {
			errs := create(c.ctx, fresh)
			c.mu.Lock()
			defer c.mu.Unlock()
			for i, one := range begun {
				delete(c.busy, fresh[i])
				one.err = errs[i]
				close(one.done)
			}
		})
	}
	return under
}

// close ends the creations under way, begins no more, and waits for them.
func (c *creations) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// autoCreate has the unknown ones of some topics created, and returns those with
// what to answer. That is UNKNOWN_TOPIC_OR_PARTITION at once, as in Kafka: whoever
// asks for a topic that is gone must not be told of the one that takes its place.
// A client that asks again while the topic is being created waits for it, and a
// topic that was created meanwhile is not in the result.
func (s *Server) autoCreate(ctx context.Context, x *exchange, names []string) map[string]error {
	var unknown []string
	tried := make(map[string]error)
	for _, name := range names {
		if _, twice := tried[name]; twice || !validTopic(name) || InternalTopic(name) {
			continue
		}
		if _, ok := s.backend.Topic(name); ok {
			continue
		}
		tried[name] = kerr.UnknownTopicOrPartition
		unknown = append(unknown, name)
	}
	if len(unknown) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Limits.CreateWait)
	defer cancel()
	waited := make(map[string]error)
	for i, under := range s.creations.begin(unknown, func(ctx context.Context, names []string) []error {
		return s.createAsked(ctx, x.api.name, names)
	}) {
		if under == nil {
			continue
		}
		select {
		case <-under.done:
			if tried[unknown[i]] = creationError(under.err); under.err == nil {
				delete(tried, unknown[i])
				waited[unknown[i]] = nil
			}
		case <-x.conn.stop:
		case <-ctx.Done():
		}
	}
	if len(waited) > 0 {
		s.awaitLeaders(ctx, x, waited)
	}
	return tried
}

// creationError is what a client is told that has waited for a topic: an error
// that it retries, if the same may succeed later.
func creationError(err error) error {
	if kerr.IsRetriable(kerr.ErrorForCode(codeOf(err))) {
		return kerr.LeaderNotAvailable
	}
	return err
}

// createAsked creates topics of which clients have asked for the metadata.
func (s *Server) createAsked(ctx context.Context, api string, names []string) []error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Limits.ProduceTimeout)
	defer cancel()
	defaults := s.backend.Defaults()
	specs := make([]CreateTopicSpec, len(names))
	for i, name := range names {
		specs[i] = CreateTopicSpec{Name: name, Partitions: defaults.Partitions, ReplicationFactor: defaults.ReplicationFactor}
	}
	errs := make([]error, len(names))
	for i, made := range s.backend.CreateTopics(ctx, specs) {
		errs[i] = made.Err
		if errors.Is(made.Err, kerr.TopicAlreadyExists) {
			errs[i] = nil
		}
		if errs[i] != nil && !errors.Is(errs[i], context.Canceled) && s.noise.allow(api+" "+names[i]) {
			s.log.Warn("a topic that a client has asked for can't be created", "topic", names[i], "err", errs[i])
		}
	}
	return errs
}

// awaitLeaders waits until the created topics have live leaders, at most for
// Limits.CreateWait.
func (s *Server) awaitLeaders(ctx context.Context, x *exchange, created map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Limits.CreateWait)
	defer cancel()
	for {
		changed := s.backend.TopicsChanged()
		live, led := s.live(x.conn.listener), true
		for name, err := range created {
			if err == nil {
				t, ok := s.backend.Topic(name)
				led = led && ok
				for _, p := range t.Partitions {
					led = led && live.has(p.Leader)
				}
			}
		}
		if led {
			return
		}
		select {
		case <-changed:
		case <-x.conn.stop:
			return
		case <-ctx.Done():
			return
		}
	}
}
