package raftnet

import "sync"

const (
	// bulkHandlers is how many handlers of one kind a Bulk connection may keep
	// busy, bulkJobs and bulkBytes how much may wait for them.
	bulkHandlers = 8
	bulkJobs     = 1024
	bulkBytes    = 64 << 20
	// controlJobs and controlBytes bound the Control messages of one peer that
	// wait for their handlers.
	controlJobs  = 4096
	controlBytes = 16 << 20
)

// pool runs jobs on up to workers goroutines, which exist while there is work.
// With one worker the jobs run in order.
type pool struct {
	workers, maxJobs, maxBytes int

	mu      sync.Mutex
	jobs    []poolJob // waiting
	bytes   int       // of jobs
	running int       // goroutines
}

type poolJob struct {
	run   func()
	bytes int
}

// controlPool runs the handlers of a peer's Control messages.
func (n *Net) controlPool(node int32) *pool {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.control[node]
	if !ok {
		p = &pool{workers: 1, maxJobs: controlJobs, maxBytes: controlBytes}
		n.control[node] = p
	}
	return p
}

// add queues a job; false when there is no room or n is closed.
func (p *pool) add(n *Net, run func(), bytes int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.jobs) >= p.maxJobs || len(p.jobs) > 0 && p.bytes+bytes > p.maxBytes {
		return false
	}
	if p.running < p.workers {
		if !n.spawn(p.work) {
			return false
		}
		p.running++
	}
	p.jobs = append(p.jobs, poolJob{run, bytes})
	p.bytes += bytes
	return true
}

func (p *pool) work() {
	for {
		p.mu.Lock()
		if len(p.jobs) == 0 {
			p.running--
			p.mu.Unlock()
			return
		}
		job := p.jobs[0]
		p.jobs[0] = poolJob{}
		p.jobs = p.jobs[1:]
		p.bytes -= job.bytes
		p.mu.Unlock()
		job.run()
	}
}
