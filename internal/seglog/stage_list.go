package seglog

import (
	"encoding/json"
	"slices"

	"github.com/raftsman/raftsman/internal/vfs"
)

const (
	listName  = "STAGED"
	listBytes = 16 << 20 // a list that is longer is none
	listEvery = 64 << 20 // bytes that may have to be read again after a crash
)

// stagedList is the content of STAGED: which segments of a staging directory
// are complete, verified and durable, so that a Stage that goes on need not
// read them again. What it says was true before the file was written, and is
// taken back before a segment changes.
type stagedList struct {
	Next int64         `json:"next"` // of the State that is being staged
	Done []SegmentInfo `json:"done"`
}

// readList returns an empty list for one that is missing or can't be read:
// nothing is known then, and everything is verified again.
func readList(fsys vfs.FS, dir string) (l stagedList, err error) {
	p, err := readSmall(fsys, vfs.Join(dir, listName), listBytes)
	if err != nil || p == nil {
		return l, err
	}
	if json.Unmarshal(p, &l) != nil {
		return stagedList{}, nil
	}
	return l, nil
}

// keepOnly forgets what st does not want just so.
func (l *stagedList) keepOnly(st State) {
	wanted := make(map[int64]SegmentInfo, len(st.Segments))
	for _, info := range st.Segments {
		wanted[info.Base] = info
	}
	l.Next = st.Next
	l.Done = slices.DeleteFunc(l.Done, func(info SegmentInfo) bool { return wanted[info.Base] != info })
}

func (l *stagedList) drop(info SegmentInfo) {
	l.Done = slices.DeleteFunc(l.Done, func(d SegmentInfo) bool { return d == info })
}

func (l *stagedList) has(info SegmentInfo) bool { return slices.Contains(l.Done, info) }

func (s *stager) writeList() error {
	p, err := json.Marshal(s.list)
	if err != nil {
		return err
	}
	s.unlisted = 0
	return vfs.WriteFileAtomic(s.fs, vfs.Join(s.dir, listName), p)
}

// StagedNext returns the next offset of the State that a directory is, or was,
// being staged for; ok is false when it holds no staging.
func StagedNext(fsys vfs.FS, staged string) (next int64, ok bool, err error) {
	p, err := readSmall(fsys, vfs.Join(staged, listName), listBytes)
	if err != nil || p == nil {
		return 0, false, err
	}
	l, err := readList(fsys, staged)
	return l.Next, err == nil, err
}
