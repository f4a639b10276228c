package config

import (
	"fmt"
	"maps"
	"slices"
)

// Type is a configuration's type, numbered as in DescribeConfigs (KIP-569).
type Type int8

// Types of values.
const (
	Boolean Type = 1
	String  Type = 2
	Int     Type = 3
	Short   Type = 4
	Long    Type = 5
	Double  Type = 6
	List    Type = 7
)

func (t Type) String() string {
	return [...]string{"?", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST"}[t]
}

// Def describes one configuration.
type Def struct {
	Name    string
	Type    Type
	Default string
	Doc     string // one sentence, for DescribeConfigs
	// Inert says why a value has no effect here; empty: it has one.
	Inert string
	// ReadOnly can't be altered while nodes run.
	ReadOnly bool
	// Unset has no default: until it is set its value is null.
	Unset bool

	valid  func(string) error  // after the type's own check
	refuse func(string) string // why a value that Kafka knows is refused here
}

// Synonym is a broker configuration whose value is a topic configuration's
// default, multiplied by Scale.
type Synonym struct {
	Name  string
	Scale int64
}

// Check refuses a value. The error has Kafka's words.
func (d *Def) Check(value string) error {
	err := d.Type.check(value)
	if err == nil && d.valid != nil {
		err = d.valid(value)
	}
	if err != nil {
		return invalid("Invalid value %s for configuration %s: %s", value, d.Name, err)
	}
	if d.refuse != nil {
		if why := d.refuse(value); why != "" {
			return invalid("Invalid value %s for configuration %s: %s", value, d.Name, why)
		}
	}
	return nil
}

// Topic returns a topic configuration.
func Topic(name string) (*Def, bool) {
	d, ok := topicDefs[name]
	return d, ok
}

// TopicNames lists the topic configurations in order.
func TopicNames() []string { return topicNames }

// Broker returns a broker configuration.
func Broker(name string) (*Def, bool) {
	d, ok := brokerDefs[name]
	return d, ok
}

// BrokerNames lists the broker configurations in order.
func BrokerNames() []string { return brokerNames }

// Synonyms are the broker configurations that a topic configuration's default
// comes from, the first that is set before the others.
func Synonyms(topic string) []Synonym { return synonyms[topic] }

var (
	topicDefs   = index(topicTable)
	topicNames  = slices.Sorted(maps.Keys(topicDefs))
	brokerDefs  = index(append(derived(), brokerTable...))
	brokerNames = slices.Sorted(maps.Keys(brokerDefs))
)

func index(table []Def) map[string]*Def {
	byName := make(map[string]*Def, len(table))
	for i := range table {
		byName[table[i].Name] = &table[i]
	}
	return byName
}

// derived makes the broker configurations that are defaults of topics'.
func derived() []Def {
	var defs []Def
	for _, topic := range topicNames {
		t, list := topicDefs[topic], synonyms[topic]
		for i, s := range list {
			d := *t
			d.Name = s.Name
			d.Doc = "Default of topics' " + topic + "."
			if s.Scale > 1 {
				d.Type = Int
				d.Doc = fmt.Sprintf("Default of topics' %s, in units of %d ms.", topic, s.Scale)
			}
			if s.Name == "min.insync.replicas" {
				// All topics have it, and the usual majority is of three.
				d.valid = between(1, 2)
			}
			d.Unset = i < len(list)-1
			if !d.Unset {
				d.Default = unscale(t.Default, s.Scale)
			}
			defs = append(defs, d)
		}
	}
	return defs
}
