//go:build !linux

package process

// CurrentTick reports false: it is not known on this system.
func CurrentTick() (uint64, bool) { return 0, false }

// StartTick reports false: it is not known on this system.
func StartTick(int) (uint64, bool) { return 0, false }
