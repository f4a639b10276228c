package group

// Stats are what a machine counts. Groups and Members are as it stands; the others
// only grow.
type Stats struct {
	Groups  [len(stateNames)]int // by state
	Members int

	Rebalances     uint64 // that have begun
	ExpiredMembers uint64 // whose session was over
	Commits        uint64 // offsets that were stored
	ExpiredOffsets uint64
}

// EachState tells how many groups are in each state, by Kafka's names.
func (s *Stats) EachState(tell func(state string, groups int)) {
	for i, n := range s.Groups {
		tell(stateNames[i], n)
	}
}

// Stats are the machine's counts; of one that has resigned they are zero.
func (m *Machine) Stats() Stats { return m.stats }

// enter changes the group's state, and nothing else.
func (g *group) enter(s state) {
	g.stats.Groups[g.state]--
	g.state = s
	g.stats.Groups[s]++
}

// close forgets a group.
func (m *Machine) close(g *group) {
	m.stats.Groups[g.state]--
	delete(m.groups, g.name)
}
