//go:build !linux

package process

// isSurelyLocal returns true: only Linux can report whether a file may make a process wait.
func (spec Spec) isSurelyLocal() bool { return true }
