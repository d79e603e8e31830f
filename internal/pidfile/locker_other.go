//go:build !linux

package pidfile

// proveOpen returns no error: these systems have no pid namespaces, so the number in a locked file
// is that of its owner.
func proveOpen(descriptor, pid int) error { return nil }

// locker returns 0: the process that holds the lock is unknown on these systems.
func locker(descriptor int) int { return 0 }
