//go:build !linux

package process

// CurrentTick is not known on this system.
func CurrentTick() (uint64, bool) { return 0, false }

// StartTick is not known on this system.
func StartTick(int) (uint64, bool) { return 0, false }
