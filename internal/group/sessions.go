package group

import "time"

// sessionGrace is the least that a member has left with a new coordinator that has
// not heard it yet: time to find that one.
const sessionGrace = time.Second

// Sessions are those of a group's members, for the machine that comes after this
// one: without them a member that has died would have its whole session again.
type Sessions struct {
	Group   string
	Members []Session
}

// Session is how long a member may still be silent.
type Session struct {
	Member string
	Left   time.Duration
}

// Sessions tells those of all groups with members. Ask before Resign.
func (m *Machine) Sessions(now time.Time) []Sessions {
	if m.resigned {
		return nil
	}
	var all []Sessions
	for _, g := range m.sorted() {
		if len(g.order) == 0 {
			continue
		}
		s := Sessions{Group: g.name, Members: make([]Session, len(g.order))}
		for i, x := range g.order {
			left := x.sessionTimeout
			if !x.waits() {
				left = min(left, max(x.session.at.Sub(now), 0))
			}
			s.Members[i] = Session{x.id, left}
		}
		all = append(all, s)
	}
	return all
}

// Inherit takes in what the machine before this one knew of sessions, at any time
// after Loaded. It counts for members that this machine has from the log and has
// not heard yet: their sessions end when they would have, or in a moment if that is
// later; and those that the log has and the other machine had no more are gone.
// Groups that are not named are not touched.
func (m *Machine) Inherit(now time.Time, all []Sessions) Effects {
	if m.resigned {
		return Effects{}
	}
	m.begin(now)
	for _, s := range all {
		g := m.groups[s.Group]
		if g == nil {
			continue
		}
		left := make(map[string]time.Duration, len(s.Members))
		for _, x := range s.Members {
			left[x.Member] = max(x.Left, sessionGrace)
		}
		for _, x := range g.order {
			if at := m.now.Add(left[x.id]); x.unheard && at.Before(x.session.at) {
				m.timers.set(&x.session, at)
			}
		}
	}
	return m.end()
}
