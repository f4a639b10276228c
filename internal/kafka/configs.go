package kafka

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/config"
)

// The configuration APIs (keys 32, 33 and 44) name resources by a type and a
// name: topics; brokers by number, or without a name all of them together. A
// broker's own configuration is that broker's to tell and change: clients send
// such a request there.

// Types of resources that have configurations.
const (
	ConfigTopic   = int8(kmsg.ConfigResourceTypeTopic)
	ConfigBroker  = int8(kmsg.ConfigResourceTypeBroker)
	configLoggers = int8(kmsg.ConfigResourceTypeBrokerLogger)
)

// configResource checks a resource that a client named.
func (s *Server) configResource(kind kmsg.ConfigResourceType, name string) (ConfigResource, error) {
	r := ConfigResource{int8(kind), name}
	switch r.Type {
	case ConfigTopic:
		if err := checkTopicName(name); err != nil {
			return r, err
		}
		if _, ok := s.backend.Topic(name); !ok {
			return r, Errorf(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", name)
		}
	case ConfigBroker:
		if name == "" {
			return r, nil
		}
		id, err := strconv.ParseInt(name, 10, 32)
		if err != nil {
			return r, Errorf(kerr.InvalidRequest, "Broker id must be an integer, but it is: %s", name)
		}
		if int32(id) != s.backend.NodeID() {
			return r, Errorf(kerr.InvalidRequest, "Unexpected broker id, expected %d or empty string, but received %s", s.backend.NodeID(), name)
		}
		r.Name = strconv.FormatInt(id, 10) // not 01, or +1
	case configLoggers:
		return r, Errorf(kerr.InvalidRequest, "Log levels can't be read or changed while the node runs: there are no broker loggers")
	default:
		return r, Errorf(kerr.InvalidRequest, "Unsupported resource type %d: topics (%d) and brokers (%d) have configurations", r.Type, ConfigTopic, ConfigBroker)
	}
	return r, nil
}

// resources collects the changes of a request, and refuses a resource that is
// named more than once.
type resources struct {
	changes []ConfigChange
	at      []int // their places in the response
	named   map[ConfigResource]int
}

// again says that a resource was named more than once.
func (r *resources) again(kind kmsg.ConfigResourceType, name string) error {
	if r.named[ConfigResource{int8(kind), name}] > 1 {
		return Errorf(kerr.InvalidRequest, "Each resource must appear at most once.")
	}
	return nil
}

func (r *resources) count(kind kmsg.ConfigResourceType, name string) {
	if r.named == nil {
		r.named = make(map[ConfigResource]int)
	}
	r.named[ConfigResource{int8(kind), name}]++
}

func (r *resources) add(place int, c ConfigChange) {
	r.changes, r.at = append(r.changes, c), append(r.at, place)
}

// checkConfigNames refuses a configuration that is named twice, in a topic's or
// broker's change.
func checkConfigNames(ops []config.Op) error {
	seen := make(map[string]bool, len(ops))
	for _, op := range ops {
		if seen[op.Name] {
			return Errorf(kerr.InvalidRequest, "Error due to duplicate config keys: %s", op.Name)
		}
		seen[op.Name] = true
	}
	return nil
}
