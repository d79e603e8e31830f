//go:build !linux

package process

// Ending reports whether a process is exiting, or was sent KILL. That is not known here.
func Ending(int) bool { return false }

// KillBelow does nothing: the processes below another one are not known here.
func KillBelow(int) {}
