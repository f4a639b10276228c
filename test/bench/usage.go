package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// hz is what the kernel counts CPU time in for user space, on every architecture that Go has.
const hz = 100

// A sample is what the machine has used until a moment.
type sample struct {
	at      time.Time
	machine machineCPU
	procs   map[int]procCPU
}

// machineCPU is the first line of /proc/stat, in seconds over all cores.
type machineCPU struct {
	busy  float64 // with processes and interrupts
	steal float64 // taken by other guests of the host
}

// procCPU is a line of /proc/PID/stat.
type procCPU struct {
	parent int
	kernel bool    // a thread of the kernel's own
	own    float64 // seconds
	reaped float64 // seconds of ended children, and theirs
}

// takeSample reads all of /proc.
func takeSample() (s sample, err error) {
	s = sample{at: time.Now(), procs: make(map[int]procCPU)}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return s, err
	}
	if s.machine, err = parseMachine(text); err != nil {
		return s, err
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, p, err := parseProc(text)
		if err != nil {
			return s, fmt.Errorf("%s: %w", path, err)
		}
		s.procs[pid] = p
	}
	return s, err
}

func parseMachine(text []byte) (m machineCPU, err error) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 9 || f[0] != "cpu" {
		return m, fmt.Errorf("/proc/stat begins with %q, not with the time of all cores", line)
	}
	var v [8]float64 // user nice system idle iowait irq softirq steal
	for i := range v {
		if v[i], err = strconv.ParseFloat(f[i+1], 64); err != nil {
			return m, fmt.Errorf("/proc/stat: %w", err)
		}
	}
	return machineCPU{busy: (v[0] + v[1] + v[2] + v[5] + v[6]) / hz, steal: v[7] / hz}, nil
}

func parseProc(text []byte) (pid int, p procCPU, err error) {
	// The name is in brackets, and may have blanks and brackets of its own.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return 0, p, fmt.Errorf("no name in %q", text)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(text[:open]))); err != nil {
		return 0, p, err
	}
	f := strings.Fields(string(text[end+1:])) // from the third field on
	if len(f) < 15 {
		return 0, p, fmt.Errorf("%d fields after the name in %q", len(f), text)
	}
	if p.parent, err = strconv.Atoi(f[1]); err != nil {
		return 0, p, err
	}
	flags, err := strconv.ParseUint(f[6], 10, 64)
	if err != nil {
		return 0, p, err
	}
	const kernelThread = 0x00200000 // PF_KTHREAD
	p.kernel = flags&kernelThread != 0
	var v [4]float64 // utime stime cutime cstime
	for i := range v {
		if v[i], err = strconv.ParseFloat(f[11+i], 64); err != nil {
			return 0, p, err
		}
	}
	p.own, p.reaped = (v[0]+v[1])/hz, (v[2]+v[3])/hz
	return pid, p, nil
}

// usage is what was used in a span of time, in CPU seconds.
type usage struct {
	Seconds float64            `json:"seconds"`
	Client  float64            `json:"client"`
	Roles   map[string]float64 `json:"roles,omitempty"`  // of the servers, by role: "node", "etcd"
	Others  float64            `json:"others"`           // of processes that are not ours
	Stolen  float64            `json:"stolen,omitempty"` // by the host's other guests
	Kernel  float64            `json:"kernel,omitempty"` // threads of the kernel, which write back among other things
}

// between says what was used between two samples. roles names the servers' processes; self is the
// client. The children of both are theirs.
//
// A process counts as another one with all it has used since the first sample, ended children
// included: short commands of a shell beside us are seen. What a child had used before the first
// sample is taken off when it ends. Where threads of the kernel can't be
// seen, as in a container, neither can other processes: there, all that the machine did
// beyond client and servers is the others'.
func between(a, b sample, self int, roles map[int]string) usage {
	u := usage{Seconds: b.at.Sub(a.at).Seconds(), Stolen: b.machine.steal - a.machine.steal, Roles: make(map[string]float64)}
	seesKernel := false
	earlier := handedOn(a.procs, b.procs)
	for pid, p := range b.procs {
		before := a.procs[pid]
		if before.own > p.own {
			before = procCPU{} // the number was given out anew
		}
		own, all := p.own-before.own, p.own-before.own+max(0, p.reaped-before.reaped-earlier[pid])
		switch role := owner(b.procs, pid, self, roles); {
		case role == "client":
			u.Client += own
		case role != "":
			u.Roles[role] += own
		case p.kernel:
			seesKernel = true
			u.Kernel += own
		default:
			u.Others += all
		}
	}
	if !seesKernel {
		u.Others = max(0, b.machine.busy-a.machine.busy-u.Client-u.servers())
	}
	return u
}

// handedOn returns what processes that ended had used before, by the living process that got it
// with their end.
func handedOn(a, b map[int]procCPU) map[int]float64 {
	to := make(map[int]float64)
	for pid, p := range a {
		if _, lives := b[pid]; lives {
			continue
		}
		heir := p.parent
		for range 64 { // no chain of parents is that long
			if _, lives := b[heir]; lives || heir == 0 {
				break
			}
			heir = a[heir].parent
		}
		to[heir] += p.own + p.reaped
	}
	return to
}

// owner says whose a process is: "client", a server's role, or "".
func owner(procs map[int]procCPU, pid, self int, roles map[int]string) string {
	for range 64 { // no chain of parents is that long
		if role, ok := roles[pid]; ok {
			return role
		}
		if pid == self {
			return "client"
		}
		p, ok := procs[pid]
		if !ok {
			return ""
		}
		pid = p.parent
	}
	return ""
}

func (u usage) servers() (sum float64) {
	for _, s := range u.Roles {
		sum += s
	}
	return sum
}

// foreign is how many cores anything else used, on this machine or of it.
func (u usage) foreign() float64 {
	if u.Seconds <= 0 {
		return 0
	}
	return (u.Others + u.Stolen) / u.Seconds
}

// plus joins two spans.
func (u usage) plus(o usage) usage {
	u.Roles = maps.Clone(u.Roles)
	if u.Roles == nil {
		u.Roles = make(map[string]float64)
	}
	for role, s := range o.Roles {
		u.Roles[role] += s
	}
	u.Seconds += o.Seconds
	u.Client += o.Client
	u.Others += o.Others
	u.Stolen += o.Stolen
	u.Kernel += o.Kernel
	return u
}
