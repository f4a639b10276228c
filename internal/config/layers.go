package config

import "strings"

// Source says where a value comes from, numbered as in DescribeConfigs.
type Source int8

// Sources of values.
const (
	DynamicTopic         Source = 1
	DynamicBroker        Source = 2
	DynamicDefaultBroker Source = 3
	StaticBroker         Source = 4
	Default              Source = 5
)

// Value is what one source says.
type Value struct {
	Name   string
	Value  string
	Source Source
}

// Entry is a configuration as it stands.
type Entry struct {
	Def    *Def
	Value  string
	Null   bool // there is no value: it was not set, and has no default
	Source Source
	// Synonyms are the values that could count, the one that does first.
	Synonyms []Value
}

// Layer is the configurations of brokers that come from one source.
type Layer struct {
	Source Source
	Values map[string]string
}

// Brokers are the layers of a node's own configurations, the first that has a
// value counting: of the node, of all nodes, static.
type Brokers []Layer

// synonymValues appends what brokers say of some names, each source after the
// other, then the default.
func (b Brokers) synonymValues(to []Value, names ...string) []Value {
	for _, l := range b {
		for _, name := range names {
			if v, ok := l.Values[name]; ok {
				to = append(to, Value{name, v, l.Source})
			}
		}
	}
	for _, name := range names {
		if d, ok := brokerDefs[name]; ok && !d.Unset && !d.ReadOnly {
			to = append(to, Value{name, d.Default, Default})
		}
	}
	return to
}

// Broker returns a broker configuration as it stands; ok is false when it is
// unknown. One without a value has the source of what counts instead, as in Kafka.
func (b Brokers) Broker(name string) (e Entry, ok bool) {
	d, ok := brokerDefs[name]
	if !ok {
		return e, false
	}
	e = Entry{Def: d, Synonyms: b.synonymValues(nil, families[name]...)}
	for _, v := range e.Synonyms {
		if v.Name == name {
			e.Value, e.Source = v.Value, v.Source
			return e, true
		}
	}
	if !d.ReadOnly || d.Unset {
		e.Null, e.Source = true, Default
		if len(e.Synonyms) > 0 {
			e.Source = e.Synonyms[0].Source
		}
		return e, true
	}
	e.Value, e.Source = d.Default, Default
	e.Synonyms = []Value{{name, d.Default, Default}}
	return e, true
}

// families list each broker configuration and those that count after it.
var families = func() map[string][]string {
	all := make(map[string][]string, len(brokerDefs))
	for name := range brokerDefs {
		all[name] = []string{name}
	}
	for _, list := range synonyms {
		for i, s := range list {
			all[s.Name] = names(list[i:])
		}
	}
	return all
}()

// synonymNames are the names of synonyms, by topic configuration.
var synonymNames = func() map[string][]string {
	all := make(map[string][]string, len(synonyms))
	for topic, list := range synonyms {
		all[topic] = names(list)
	}
	return all
}()

func names(list []Synonym) []string {
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = s.Name
	}
	return names
}

// Topic returns a topic configuration as it stands for a topic with its own
// settings.
func (b Brokers) Topic(set map[string]string, name string) (e Entry, ok bool) {
	d, ok := topicDefs[name]
	if !ok {
		return e, false
	}
	e = Entry{Def: d, Value: d.Default, Source: Default}
	if v, own := set[name]; own {
		e.Synonyms = append(e.Synonyms, Value{name, v, DynamicTopic})
	}
	e.Synonyms = b.synonymValues(e.Synonyms, synonymNames[name]...)
	if len(e.Synonyms) == 0 {
		return e, true
	}
	first := e.Synonyms[0]
	e.Value, e.Source = first.Value, first.Source
	for _, s := range synonyms[name] {
		if s.Name == first.Name && first.Source != DynamicTopic {
			e.Value = scale(first.Value, s.Scale)
		}
	}
	return e, true
}

// Number reads a whole number that was checked.
func Number(value string) int64 { return number(value) }

// Bool reads a truth value that was checked.
func Bool(value string) bool { return strings.EqualFold(value, "true") }
