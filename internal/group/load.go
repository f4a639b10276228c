package group

import (
	"bytes"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// load takes in one record of the log.
func (m *Machine) load(rec Record) error {
	r := reader{src: rec.Key}
	version := r.int16()
	if r.err != nil || version < 0 {
		return fmt.Errorf("key %.32x: no version", rec.Key)
	}
	var err error
	switch name := r.string(); version {
	case keyOffsetOld, keyOffset:
		topic, partition := r.string(), r.int32()
		if r.err != nil {
			err = fmt.Errorf("offset key of version %d: %w", version, r.err)
		} else if err = m.loadOffset(name, topic, partition, rec.Value); err != nil {
			err = fmt.Errorf("offset of group %q, topic %q, partition %d: %w", name, topic, partition, err)
		}
	case keyGroup:
		if r.err != nil {
			err = fmt.Errorf("group key: %w", r.err)
		} else if err = m.loadGroup(name, rec.Value); err != nil {
			err = fmt.Errorf("group %q: %w", name, err)
		}
	}
	return err
}

// loaded is the group that a record is about.
func (m *Machine) loaded(name string) *group {
	g := m.groups[name]
	if g == nil {
		g = m.open(name)
		g.kept, g.changed = true, 0
	}
	return g
}

func (m *Machine) loadOffset(name, topic string, partition int32, value []byte) error {
	if value == nil {
		if g := m.groups[name]; g != nil {
			g.drop(topic, partition)
			m.closeLoaded(g)
		}
		return nil
	}
	c, err := readOffset(value)
	if err != nil {
		return err
	}
	o := m.loaded(name).slot(topic, partition)
	o.committed, o.known = c, true
	return nil
}

func readOffset(value []byte) (committed, error) {
	r := reader{src: value}
	version := r.int16()
	if r.err != nil || version < 0 {
		return committed{}, fmt.Errorf("value %.32x: no version", value)
	}
	if version > newestOffsetValue {
		return committed{}, fmt.Errorf("value has version %d, newer than %d", version, newestOffsetValue)
	}
	r.flexible = version >= 4
	c := committed{offset: r.int64(), epoch: -1, expires: -1}
	if version >= 3 {
		c.epoch = r.int32()
	}
	c.metadata = interned(r.string())
	c.at = r.int64()
	if version == 1 {
		c.expires = r.int64()
	}
	r.tags(func(tag int, value []byte) {
		if tag == 0 && len(value) == len(c.topicID) {
			copy(c.topicID[:], value)
		}
	})
	if r.err != nil {
		return committed{}, fmt.Errorf("value of version %d: %w", version, r.err)
	}
	return c, nil
}

// loadGroup takes in a generation: all that earlier ones said about the group is
// void.
func (m *Machine) loadGroup(name string, value []byte) error {
	if value == nil {
		if g := m.groups[name]; g != nil {
			g.reset()
			g.logged = false
			m.closeLoaded(g)
		}
		return nil
	}
	v, err := readGroup(value)
	if err != nil {
		return err
	}
	g := m.loaded(name)
	g.reset()
	g.logged = true
	g.generation, g.kind, g.changed = v.Generation, v.ProtocolType, max(v.CurrentStateTimestamp, 0)
	if len(v.Members) == 0 {
		g.subscribe()
		return nil
	}
	g.enter(stable)
	g.protocol = v.Protocol
	if g.protocol == nil {
		g.protocol = new(string)
	}
	for i := range v.Members {
		one := &v.Members[i]
		x := m.newMember(g, one.MemberID, one.InstanceID, Client{one.ClientID, one.ClientHost})
		x.rebalanceTimeout, x.sessionTimeout = millis(one.RebalanceTimeoutMillis), millis(one.SessionTimeoutMillis)
		x.protocols = []protocol{{*g.protocol, bytes.Clone(one.Subscription)}}
		x.assignment = bytes.Clone(one.Assignment)
		g.add(x, v.ProtocolType)
		if v.Leader != nil && *v.Leader == x.id {
			g.leader = x
		}
	}
	g.subscribe()
	return nil
}

// readGroup decodes a generation. The bytes in it are the record's.
func readGroup(value []byte) (v kmsg.GroupMetadataValue, err error) {
	r := reader{src: value}
	v.Version = r.int16()
	if r.err != nil || v.Version < 0 {
		return v, fmt.Errorf("value %.32x: no version", value)
	}
	if v.Version > newestGroupValue {
		return v, fmt.Errorf("value has version %d, newer than %d", v.Version, newestGroupValue)
	}
	r.flexible = v.Version >= 4
	v.ProtocolType, v.Generation = r.string(), r.int32()
	v.Protocol, v.Leader = r.nullableString(), r.nullableString()
	v.CurrentStateTimestamp = -1
	if v.Version >= 2 {
		v.CurrentStateTimestamp = r.int64()
	}
	ids, instances := make(map[string]bool), make(map[string]bool)
	for n := r.count(9); n > 0; n-- { // 9: four bytes of timeout, five lengths
		one := readMember(&r, v.Version)
		if r.err != nil {
			break
		}
		if ids[one.MemberID] || one.InstanceID != nil && instances[*one.InstanceID] {
			return v, fmt.Errorf("member %q is there twice", one.MemberID)
		}
		ids[one.MemberID] = true
		if one.InstanceID != nil {
			instances[*one.InstanceID] = true
		}
		v.Members = append(v.Members, one)
	}
	r.tags(nil)
	if r.err != nil {
		return v, fmt.Errorf("value of version %d: %w", v.Version, r.err)
	}
	return v, nil
}

func readMember(r *reader, version int16) (one kmsg.GroupMetadataValueMember) {
	one.MemberID = r.string()
	if version >= 3 {
		one.InstanceID = r.nullableString()
	}
	one.ClientID, one.ClientHost = r.string(), r.string()
	if version >= 1 {
		one.RebalanceTimeoutMillis = r.int32()
	}
	one.SessionTimeoutMillis = r.int32()
	if version == 0 {
		one.RebalanceTimeoutMillis = one.SessionTimeoutMillis
	}
	one.Subscription, one.Assignment = r.bytes(), r.bytes()
	r.tags(nil)
	return one
}

// reset makes a group one that only stores offsets, with the offsets it has.
// None of its timers is set: it is being loaded.
func (g *group) reset() {
	g.enter(empty)
	g.stats.Members -= len(g.order)
	g.changed, g.generation, g.kind, g.protocol = 0, 0, "", nil
	g.leader, g.order, g.topics, g.topicsKnown = nil, nil, nil, false
	clear(g.members)
	clear(g.static)
	clear(g.votes)
}

// closeLoaded forgets a group of which the log holds nothing any more.
func (m *Machine) closeLoaded(g *group) {
	if !g.logged && len(g.offsets) == 0 {
		m.close(g)
	}
}
