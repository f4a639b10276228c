//go:build !linux

package vfs

// Volume implements FS.
func (osFS) Volume(string) (Volume, error) { return nil, ErrNoVolume }
