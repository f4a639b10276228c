package controller

import (
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

const (
	// moveCost is how long a replica takes to move besides its bytes: until the
	// nodes have heard of it, each step was committed, and the winner has heard
	// that it is done.
	moveCost = 800 * time.Millisecond
	// unlimitedRate stands for a rate that is not limited, in bytes a second.
	unlimitedRate = 200 << 20
	// measured is how much of an operation has to be done before its own speed
	// says how long the rest takes.
	measured = 0.1
)

// estimate says how long it takes until a node is empty. While nothing arrives
// it counts down what it said last: many replicas may arrive at once.
func (o *operator) estimate(id string, op *cluster.Op, n *node) {
	p := op.Progress
	if was := o.view.Ops[id].Progress; was != nil && was.Done == p.Done && was.BytesDone == p.BytesDone {
		if at, ok := o.facts.Written[id]; ok {
			left := time.Duration(was.EstimateSeconds)*time.Second - o.facts.Now.Sub(at)
			if p.EstimateSeconds = seconds(left); left > 0 {
				return
			}
		}
	}
	if elapsed := o.facts.Now.Sub(*op.Started); float64(p.Done) >= measured*float64(p.Total) && p.Done > 0 && elapsed > 0 {
		p.EstimateSeconds = seconds(time.Duration(float64(elapsed) * ahead(p)))
	} else {
		p.EstimateSeconds = o.forecast(p.Total-p.Done, p.BytesTotal-p.BytesDone, n)
	}
}

// seconds rounds up: 0 means that nothing is known.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// ahead is how much is left, in multiples of what is done: by replicas, and half by
// how much larger those are that are left than all together, since small ones take
// time too. Sizes are known late, and grow: only those of now are compared.
func ahead(p *cluster.Progress) float64 {
	left := p.Total - p.Done
	if left == 0 {
		return 0
	}
	weight := 1.0
	if p.BytesTotal > 0 {
		average := float64(p.BytesTotal) / float64(p.Total)
		weight = (1 + float64(p.BytesTotal-p.BytesDone)/float64(left)/average) / 2
	}
	return weight * float64(left) / float64(p.Done)
}

// forecast is how many seconds replicas and bytes take to leave a node. Each
// replica takes its steps and its bytes at the rate of the node that receives
// it, and Moves of them pass at once; but all together not faster than the nodes
// that receive, or those that lead and send, may.
func (o *operator) forecast(replicas int, bytes int64, from *node) int64 {
	receivers, senders := 0, 0
	for _, n := range o.order {
		if n == from || !n.up {
			continue
		}
		if n.takes() {
			receivers++
		}
		if n.leading > 0 {
			senders++
		}
	}
	rate := o.facts.Rate
	if rate <= 0 {
		rate = unlimitedRate
	}
	lanes := max(min(receivers, max(senders, 1)), 1)
	moves := max(o.facts.Moves, 1)
	rounds := (replicas + moves - 1) / moves
	each := moveCost + transfer(bytes/int64(max(replicas, 1)), rate)
	return seconds(max(time.Duration(rounds)*each, transfer(bytes, rate*int64(lanes))))
}

// transfer is how long bytes take at a rate a second.
func transfer(bytes, rate int64) time.Duration {
	return time.Duration(float64(bytes) / float64(rate) * float64(time.Second))
}
