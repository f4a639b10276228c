//go:build system

package system

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

const (
	pauseTTL = 2 * time.Second // of the nodes' leases; a partition leader's lease is as long
	pingDead = time.Second     // after which silence counts as the loss of a peer

	trios = "trios" // topic with three replicas each
	pairs = "pairs" // topic with two replicas each

	trioPartitions, pairPartitions = 6, 3
)

// roles of a process that is paused.
const (
	roleWinner   = "winner"
	roleLeader   = "leader"
	roleFollower = "follower"
)

// victim is a process that is paused, by what it is at that moment.
type victim struct {
	role       string
	of         place // what it leads or follows
	at, length time.Duration
}

// faults beside the pauses.
const (
	noFault       = "nothing else"
	etcdPaused    = "an etcd member paused"
	etcdKilled    = "an etcd member killed"
	allEtcdPaused = "all of etcd paused"
	allRevoked    = "all leases revoked"
	cutBoth       = "a node cut off its peers"
	cutIn         = "a node that hears no peer"
	cutOut        = "a node that no peer hears"
	cutEtcd       = "a node cut off etcd"
)

// otherFault is what happens beside the pauses.
type otherFault struct {
	kind       string
	target     int // index of the etcd member, or of the node
	at, length time.Duration
}

// wish is a move that an operator asks for, so that the winner has to write.
type wish struct {
	of    place
	nodes []int
	at    time.Duration
}

// pauseRound is what is done in one round. It depends on the seed and the
// round's number alone; only who has a role is the cluster's choice.
type pauseRound struct {
	number  int
	victims []victim
	other   otherFault
	wishes  []wish
}

func planPause(seed uint64, number int) pauseRound {
	rnd := rand.New(rand.NewPCG(seed, uint64(number)))
	if rnd.IntN(5) == 0 {
		return planUsurped(rnd, number)
	}
	r := pauseRound{number: number}
	roles := [][]string{
		{roleWinner}, {roleWinner}, {roleLeader}, {roleLeader}, {roleFollower},
		{roleWinner, roleLeader}, {roleWinner, roleFollower}, {roleLeader, roleFollower},
	}
	for i, role := range roles[rnd.IntN(len(roles))] {
		v := victim{role: role, of: randomPlace(rnd), length: pauseLength(rnd)}
		if i > 0 {
			v.at = below(rnd, v.length)
		}
		r.victims = append(r.victims, v)
	}
	if rnd.IntN(5) > 1 {
		kinds := []string{etcdPaused, etcdKilled, allEtcdPaused, allRevoked, allRevoked, cutBoth, cutIn, cutOut, cutEtcd}
		r.other = otherFault{kinds[rnd.IntN(len(kinds))], rnd.IntN(3), below(rnd, time.Second), pauseLength(rnd)}
	} else {
		r.other.kind = noFault
	}
	end := r.victims[0].at + r.victims[0].length
	for range rnd.IntN(4) {
		w := wish{of: randomPlace(rnd), nodes: []int{1, 2, 3}}
		rnd.Shuffle(3, func(i, j int) { w.nodes[i], w.nodes[j] = w.nodes[j], w.nodes[i] })
		if w.of.topic == pairs {
			w.nodes = w.nodes[:2]
		}
		// Half of them when the pause is about to end: whoever wins by then and the
		// paused one see it at once.
		if w.at = below(rnd, end); rnd.IntN(2) == 0 {
			w.at = max(end-below(rnd, 20*time.Millisecond), 0)
		}
		if !slices.ContainsFunc(r.wishes, func(o wish) bool { return o.of == w.of }) {
			r.wishes = append(r.wishes, w)
		}
	}
	return r
}

// planUsurped takes the winner's lease away where its clock does not tell it:
// while it is paused, so that another node has won when it goes on, or just
// before, while it is about to write. Each time there is something to write for
// whoever is quicker.
func planUsurped(rnd *rand.Rand, number int) pauseRound {
	const burst = 12 * time.Millisecond // in which the wishes come
	length := 300*time.Millisecond + below(rnd, time.Second)
	r := pauseRound{number: number, other: otherFault{kind: allRevoked}}
	v, asked := victim{role: roleWinner, length: length}, length
	if r.other.at = 20*time.Millisecond + below(rnd, length/4); rnd.IntN(3) > 0 {
		r.other.at = 50 * time.Millisecond
		v.at, asked = r.other.at+below(rnd, 2*burst), r.other.at
	}
	r.victims = append(r.victims, v)
	for i := range int32(trioPartitions) {
		w := wish{of: place{trios, i}, nodes: []int{1, 2, 3}, at: asked - burst/2 + below(rnd, burst)}
		rnd.Shuffle(3, func(i, j int) { w.nodes[i], w.nodes[j] = w.nodes[j], w.nodes[i] })
		r.wishes = append(r.wishes, w)
	}
	return r
}

func randomPlace(rnd *rand.Rand) place {
	if i := rnd.Int32N(trioPartitions + pairPartitions); i < trioPartitions {
		return place{trios, i}
	} else {
		return place{pairs, i - trioPartitions}
	}
}

// pauseLength is from 50 ms to three times the leases' life, as many short as
// long ones, and as often about one of the limits.
func pauseLength(rnd *rand.Rand) time.Duration {
	limits := []time.Duration{pingDead, pauseTTL}
	if rnd.IntN(2) == 0 {
		return time.Duration(float64(limits[rnd.IntN(len(limits))]) * (0.85 + 0.5*rnd.Float64())).Round(time.Millisecond)
	}
	low, high := float64(50*time.Millisecond), float64(3*pauseTTL)
	return time.Duration(low * math.Pow(high/low, rnd.Float64())).Round(time.Millisecond)
}

func (r pauseRound) String() string {
	var b strings.Builder
	for _, v := range r.victims {
		who := v.role
		if who != roleWinner {
			who += " of " + v.of.String()
		}
		fmt.Fprintf(&b, "%s paused at %v for %v, ", who, v.at.Round(time.Millisecond), v.length.Round(time.Millisecond))
	}
	fmt.Fprintf(&b, "%s", r.other.kind)
	switch r.other.kind {
	case noFault:
	case allRevoked:
		fmt.Fprintf(&b, " at %v", r.other.at.Round(time.Millisecond))
	default:
		fmt.Fprintf(&b, " (%d) at %v for %v", r.other.target, r.other.at.Round(time.Millisecond), r.other.length)
	}
	for _, w := range r.wishes {
		fmt.Fprintf(&b, ", move %v to %v at %v", w.of, w.nodes, w.at.Round(time.Millisecond))
	}
	return b.String()
}

// moves says whether an operator moves a partition to other nodes.
func (r pauseRound) moves(p place) bool {
	return p.topic == pairs && slices.ContainsFunc(r.wishes, func(w wish) bool { return w.of == p })
}

// below is a time from 0 to less than a limit.
func below(rnd *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(rnd.Int64N(int64(limit)))
}
