//go:build !linux

package pidfile

// proveOpen has no proof to offer here: these systems have no pid namespaces, so the number in a locked file is that of its
// owner.
func proveOpen(descriptor, pid int) error { return nil }

// locker returns the process that holds the lock, which is unknown here.
func locker(descriptor int) int { return 0 }
