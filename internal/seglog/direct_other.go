//go:build !linux

package seglog

import "github.com/raftsman/raftsman/internal/vfs"

func makeDirect(vfs.File) bool { return false }

func notDirect(error) bool { return false }
