package discovery

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Timing of the protocol. The relations matter: Interval ≪ Confirm, Gap < Fresh <
// Gone ≤ Hold, and several Intervals fit into each of the others.
type Timing struct {
	// Interval is the time between two messages of one that looks.
	Interval time.Duration
	// Settle is how long one listens, without a break, before one believes that
	// nobody is there.
	Settle time.Duration
	// Confirm is how long a claim stands unopposed before it is acted upon.
	Confirm time.Duration
	// Gap is how long nobody has watched for it to count as a break.
	Gap time.Duration
	// Fresh is how long a grant may be used, from before the message was sent that
	// it answers.
	Fresh time.Duration
	// Gone is how long somebody has been silent to count as gone.
	Gone time.Duration
	// Hold is the same for the one that a grant was given to.
	Hold time.Duration
}

// DefaultTiming has a settling time that operators choose.
func DefaultTiming(settle time.Duration) Timing {
	return Timing{
		Interval: 250 * time.Millisecond, Settle: settle, Confirm: time.Second, Gap: time.Second,
		Fresh: 2 * time.Second, Gone: 10 * time.Second, Hold: 30 * time.Second,
	}
}

const (
	maxHeard   = 256 // candidates that are kept in mind; of more the newest are not heard
	maxMembers = 64
	sentKept   = 64 // of the own messages whose time of sending is known
)

// Step is what is to be done next.
type Step int

// Steps.
const (
	Wait    Step = iota
	Make         // make a cluster that nobody can join yet, then call Made
	Open         // write down that it is open if that is not done yet, then call Opened
	Discard      // undo Make and Open, then call Discarded
	Join         // join the one cluster that was found
	Several      // clusters of one name that differ were found
	GiveUp       // nobody is there
)

// Found is a member that has answered.
type Found struct {
	ClusterID, HTTP string
	at              time.Duration // of the first answer
}

// Candidate decides what one that looks for a cluster does: no clock, no network.
// Times are those of one monotonic clock. Not for concurrent use.
type Candidate struct {
	cluster   string
	id        ID
	bootstrap bool   // may make a cluster
	only      string // the cluster id that it has belonged to, the only one it may join
	t         Timing

	began, quiet, ticked time.Duration // quiet: since when it has listened without a break
	seq                  uint64
	sent                 [sentKept]time.Duration // by seq
	heard                map[ID]*heard
	found                map[string]Found
	foreign              map[string]Found // of clusters other than only

	granted  ID     // kept until its owner takes back its claim, or is gone
	claim    uint64 // the first message of the claim, 0 without one
	claimed  time.Duration
	made     bool
	opened   bool
	askedFor Step // Make, Open or Discard, under way
}

// heard is the last that was heard of another candidate.
type heard struct {
	seq   uint64
	state State
	grant ID
	echo  uint64
	best  ID
	at    time.Duration
}

// NewCandidate begins to look at a time. only is the id of the cluster that the
// data directory belongs to already: nobody makes another one then.
func NewCandidate(cluster string, id ID, bootstrap bool, only string, t Timing, now time.Duration) *Candidate {
	return &Candidate{
		cluster: cluster, id: id, bootstrap: bootstrap && only == "", only: only, t: t,
		began: now, quiet: now, ticked: now,
		heard: make(map[ID]*heard), found: make(map[string]Found), foreign: make(map[string]Found),
	}
}

// Tick is called every Interval, when everything that has arrived was received. It
// returns the message to send.
func (c *Candidate) Tick(now time.Duration) Message {
	if now-c.ticked > c.t.Gap {
		c.Disturbed(now)
	}
	c.ticked = now
	for id, h := range c.heard {
		silent := now - h.at
		if silent > c.t.Hold || silent > c.t.Gone && id != c.granted {
			delete(c.heard, id)
		}
	}
	c.decide(now)
	c.seq++
	c.sent[c.seq%sentKept] = now
	m := Message{Cluster: c.cluster, From: c.id, Seq: c.seq, State: c.state(), Grant: c.granted, Best: c.lowestClaim()}
	if c.claim != 0 {
		m.Grant = c.id
	} else if h := c.heard[c.granted]; h != nil {
		m.Echo = h.seq
	}
	return m
}

func (c *Candidate) state() State {
	switch {
	case c.opened:
		return First
	case c.claim != 0:
		return Claiming
	case c.bootstrap:
		return Standing
	}
	return Asking
}

// Seq is the number of the last message.
func (c *Candidate) Seq() uint64 { return c.seq }

// Disturbed says that what was heard until now may not be all: the candidate could
// not send, or heard of somebody whom it can't understand.
func (c *Candidate) Disturbed(now time.Duration) {
	c.quiet = now
	c.claimed = now
}

// Receive takes a message of somebody.
func (c *Candidate) Receive(now time.Duration, m Message) {
	switch {
	case m.Cluster != c.cluster || m.From == c.id || c.opened:
		return
	case m.State == Member:
		c.receiveMember(now, m)
	case m.State == Asking:
		return // it makes none, whatever it hears
	default:
		h := c.heard[m.From]
		if h == nil {
			if len(c.heard) >= maxHeard {
				return
			}
			h = new(heard)
			c.heard[m.From] = h
		}
		if m.Seq <= h.seq {
			return // late, or a copy
		}
		*h = heard{seq: m.Seq, state: m.State, grant: m.Grant, echo: m.Echo, best: m.Best, at: now}
	}
	c.decide(now)
}

func (c *Candidate) receiveMember(now time.Duration, m Message) {
	into := c.found
	if c.only != "" && m.ClusterID != c.only {
		into = c.foreign
	}
	if _, known := into[m.ClusterID]; !known && len(into) < maxMembers {
		into[m.ClusterID] = Found{ClusterID: m.ClusterID, HTTP: m.HTTP, at: now}
	}
}

// lowestClaim is the first in rank of those who claim, without this one; "" for none.
func (c *Candidate) lowestClaim() (lowest ID) {
	for id, h := range c.heard {
		if h.state == Claiming && (lowest == "" || id < lowest) {
			lowest = id
		}
	}
	return lowest
}

// someFirst says whether somebody has made a cluster already.
func (c *Candidate) someFirst() bool {
	for _, h := range c.heard {
		if h.state == First {
			return true
		}
	}
	return false
}

// relayed is the lowest claim that others hear, without this one's own.
func (c *Candidate) relayed() (lowest ID) {
	for _, h := range c.heard {
		if h.best != "" && h.best != c.id && (lowest == "" || h.best < lowest) {
			lowest = h.best
		}
	}
	return lowest
}

func (c *Candidate) decide(now time.Duration) {
	if c.opened {
		return
	}
	if h := c.heard[c.granted]; h == nil || h.state != Claiming && h.state != First {
		c.granted = ""
	}
	direct, relayed := c.lowestClaim(), c.relayed()
	if c.claim != 0 && (len(c.found) > 0 || c.someFirst() || direct != "" && direct < c.id || relayed != "" && relayed < c.id) {
		c.claim = 0
	}
	if !c.bootstrap || c.claim != 0 {
		return
	}
	// A former run of this process may have given a grant that is still in use.
	if c.granted == "" && direct != "" && now-c.began > c.t.Fresh {
		c.granted = direct
	}
	if direct != "" || relayed != "" || c.granted != "" || c.someFirst() || len(c.found) > 0 || now-c.quiet < c.t.Settle || c.askedFor == Discard || c.made {
		return
	}
	for id := range c.heard {
		if id < c.id {
			return
		}
	}
	c.claim, c.claimed = c.seq+1, now
}

// granted by all that are heard, long enough, and just now.
func (c *Candidate) confirmed(now time.Duration) bool {
	if c.claim == 0 || len(c.found) > 0 || now-c.claimed < c.t.Confirm || now-c.ticked > c.t.Gap {
		return false
	}
	for _, h := range c.heard {
		if h.grant != c.id || h.echo < c.claim || h.echo > c.seq || c.seq-h.echo >= sentKept || now-c.sent[h.echo%sentKept] > c.t.Fresh {
			return false
		}
	}
	return true
}

// Next says what to do now. Make, Open and Discard are asked for once.
func (c *Candidate) Next(now time.Duration) Step {
	switch {
	case c.opened || c.askedFor != Wait:
		return Wait
	case c.made && c.claim == 0:
		c.askedFor = Discard
		return Discard
	case c.made && c.confirmed(now):
		c.askedFor = Open
		return Open
	case c.confirmed(now):
		c.askedFor = Make
		return Make
	case c.made || c.claim != 0:
		return Wait
	}
	if len(c.found) > 1 {
		return Several
	}
	for _, f := range c.found {
		if now-f.at >= 2*c.t.Interval { // another cluster would have answered by now
			return Join
		}
		return Wait
	}
	if !c.bootstrap && len(c.heard) == 0 && now-c.quiet >= c.t.Settle {
		return GiveUp
	}
	return Wait
}

// Made says that Make is done. The claim is confirmed anew before it is opened.
func (c *Candidate) Made(now time.Duration) {
	c.askedFor, c.made, c.claimed = Wait, true, now
}

// Failed says that what was asked for could not be done, and left nothing.
func (c *Candidate) Failed() { c.askedFor, c.made, c.claim = Wait, false, 0 }

// Discarded says that Discard is done.
func (c *Candidate) Discarded() { c.askedFor, c.made = Wait, false }

// Opened says that it is written down that the cluster is open, and asks for the
// last time whether that is right. If not, nobody may be let in yet: Open or Discard
// follows.
func (c *Candidate) Opened(now time.Duration) bool {
	c.askedFor = Wait
	c.opened = c.made && c.confirmed(now)
	return c.opened
}

// Found are the members that have answered, one of each cluster.
func (c *Candidate) Found() []Found { return sorted(c.found) }

// Foreign are members of clusters that this node does not belong to.
func (c *Candidate) Foreign() []Found { return sorted(c.foreign) }

func sorted(of map[string]Found) []Found {
	return slices.SortedFunc(maps.Values(of), func(a, b Found) int { return cmp.Compare(a.ClusterID, b.ClusterID) })
}

// Others is how many candidates are heard.
func (c *Candidate) Others() int { return len(c.heard) }
