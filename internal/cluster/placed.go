package cluster

import (
	"maps"
	"slices"
)

// place notes in the batch that a partition of a topic is placed.
func (b *batch) place(c Change) {
	t := b.topic(c)
	t.Placed = max(t.Placed, c.TP.Partition+1)
}

// topic is the value that the batch will give to a change's topic.
func (b *batch) topic(c Change) *Topic {
	t := b.topics[c.TP.Topic]
	if t == nil {
		t = &Topic{}
		*t = c.Topic
		b.topics[c.TP.Topic] = t
	}
	return t
}

// putTopics writes the batch's topics, on the condition that they are as they were
// decided on, or as this call has left them.
func (f *Fenced) putTopics(b *batch, left map[string]int64) error {
	for _, name := range slices.Sorted(maps.Keys(b.topics)) {
		t := b.topics[name]
		rev, again := left[name]
		if !again {
			rev = t.ModRevision
		}
		if err := b.put(f.s.keys.Topic(name), rev, t); err != nil {
			return err
		}
	}
	return nil
}

// EverPlaced is the number of a topic's first partitions that have an assignment
// or have had one. A topic from before Placed was written has it in its
// assignments, since partitions are placed in order.
func (v *View) EverPlaced(name string, t Topic) int32 {
	for p := t.Partitions; p > t.Placed; p-- {
		if a, ok := v.Assignments[TopicPartition{name, p - 1}]; ok && a.TopicID == t.ID {
			return p
		}
	}
	return t.Placed
}
