package vfs

import "sync"

// Freezer is a disk whose syncs hang for a while, as the hook of a Fail: what
// is written reaches the files, but no sync of a file, directory or volume that
// begins while it is frozen does anything before the thaw. The zero value is not frozen. It is
// safe for concurrent use.
type Freezer struct {
	mu   sync.Mutex
	gate chan struct{} // nil: not frozen; closed by Thaw
	from func(Op, string) bool
	held int
}

// Freeze makes every sync hang from now on.
func (f *Freezer) Freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.freezeLocked()
}

// FreezeFrom makes every sync hang from the first operation on for which match
// is true, that one included.
func (f *Freezer) FreezeFrom(match func(op Op, name string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from = match
}

func (f *Freezer) freezeLocked() {
	f.from = nil
	if f.gate == nil {
		f.gate = make(chan struct{})
	}
}

// Thaw lets all syncs go on.
func (f *Freezer) Thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from = nil
	if f.gate != nil {
		close(f.gate)
		f.gate = nil
	}
}

// Frozen says whether syncs hang, and Held how many do.
func (f *Freezer) Frozen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gate != nil
}

// Held is the number of syncs that hang.
func (f *Freezer) Held() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

// Hook is for NewFail.
func (f *Freezer) Hook(op Op, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.from != nil && f.from(op, name) {
		f.freezeLocked()
	}
	if op != OpSync && op != OpSyncDir && op != OpSyncVolume {
		return nil
	}
	for f.gate != nil {
		gate := f.gate
		f.held++
		f.mu.Unlock()
		<-gate
		f.mu.Lock()
		f.held--
	}
	return nil
}
