//go:build !linux

package process

import "syscall"

// CanDieWithParent reports whether this system has Spec.DieWithParent.
const CanDieWithParent = false

func dieWithParent(*syscall.SysProcAttr) {}

// Parent returns zeros: that is not known here.
func Parent(int) (parent int, started uint64) { return 0, 0 }

// SetName does nothing.
func SetName(string) {}
