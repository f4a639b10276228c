package config

import (
	"maps"
	"slices"
	"strings"
)

// OpKind is what an operation does, numbered as in IncrementalAlterConfigs
// (KIP-339).
type OpKind int8

// Kinds of operations.
const (
	Set      OpKind = 0
	Delete   OpKind = 1
	Append   OpKind = 2
	Subtract OpKind = 3
)

func (k OpKind) String() string { return [...]string{"SET", "DELETE", "APPEND", "SUBTRACT"}[k] }

// Op changes one configuration. Value is ignored by Delete.
type Op struct {
	Kind  OpKind
	Name  string
	Value string
}

// Change is what is to become of one resource's configuration.
type Change struct {
	Ops []Op
	// Replace drops whatever Ops do not set, as AlterConfigs does.
	Replace bool
}

// AlterTopic applies a change to what was set for a topic, and returns the result as
// a new map; an error is an Invalid.
func (b Brokers) AlterTopic(set map[string]string, c Change) (map[string]string, error) {
	next, err := c.apply(set, Topic, "topic", func(name string) string {
		e, _ := b.Topic(nil, name)
		return e.Value
	})
	if err != nil {
		return nil, err
	}
	return next, b.CheckTopic(next)
}

// AlterBroker applies a change to what was set for one broker or for all.
func (b Brokers) AlterBroker(set map[string]string, c Change) (map[string]string, error) {
	next, err := c.apply(set, Broker, "broker", func(name string) string {
		e, _ := b.Broker(name)
		return e.Value
	})
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		d, _ := Broker(name)
		if err := d.Check(next[name]); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// CheckBroker refuses what brokers have set if it is at odds with itself.
func (b Brokers) CheckBroker() error {
	low, _ := b.Broker("group.min.session.timeout.ms")
	high, _ := b.Broker("group.max.session.timeout.ms")
	if number(low.Value) > number(high.Value) {
		return invalid("conflict broker config setting group.min.session.timeout.ms (%s) > group.max.session.timeout.ms (%s)", low.Value, high.Value)
	}
	return nil
}

// With returns the layers with other values from one source.
func (b Brokers) With(source Source, values map[string]string) Brokers {
	next := slices.Clone(b)
	for i := range next {
		if next[i].Source == source {
			next[i].Values = values
		}
	}
	return next
}

// ReadOnly lists the broker configurations of a change that can't be altered.
func (c Change) ReadOnly() (names []string) {
	for _, op := range c.Ops {
		if d, ok := Broker(op.Name); ok && d.ReadOnly {
			names = append(names, op.Name)
		}
	}
	return names
}

func (c Change) apply(set map[string]string, find func(string) (*Def, bool), resource string, inherited func(string) string) (map[string]string, error) {
	next := make(map[string]string, len(set)+len(c.Ops))
	if !c.Replace {
		maps.Copy(next, set)
	}
	for _, op := range c.Ops {
		d, known := find(op.Name)
		if !known {
			if _, was := set[op.Name]; was && op.Kind == Delete {
				delete(next, op.Name) // of another version
				continue
			}
			return nil, invalid("Unknown %s config name: %s", resource, op.Name)
		}
		switch op.Kind {
		case Set:
			next[op.Name] = op.Value
		case Delete:
			delete(next, op.Name)
		default:
			if d.Type != List {
				return nil, invalid("Can't %s to key %s because its type is not LIST.", op.Kind, op.Name)
			}
			now, own := next[op.Name]
			if !own {
				now = inherited(op.Name)
			}
			next[op.Name] = strings.Join(edited(Items(now), Items(op.Value), op.Kind), ",")
		}
	}
	return next, nil
}

// edited appends items that are missing, or takes some out.
func edited(items, by []string, kind OpKind) []string {
	for _, item := range by {
		switch at := slices.Index(items, item); {
		case kind == Append && at < 0:
			items = append(items, item)
		case kind == Subtract && at >= 0:
			items = slices.Delete(items, at, at+1)
		}
	}
	return items
}

// CheckTopic refuses settings of a topic that are unknown, invalid, or at odds
// with each other.
func (b Brokers) CheckTopic(set map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		d, ok := Topic(name)
		if !ok {
			return invalid("Unknown topic config name: %s", name)
		}
		if err := d.Check(set[name]); err != nil {
			return err
		}
	}
	low, _ := b.Topic(set, "min.compaction.lag.ms")
	high, _ := b.Topic(set, "max.compaction.lag.ms")
	if number(low.Value) > number(high.Value) {
		return invalid("conflict topic config setting min.compaction.lag.ms (%s) > max.compaction.lag.ms (%s)", low.Value, high.Value)
	}
	return nil
}
