//go:build !linux

package process

import "syscall"

// CanDieWithParent reports whether this system has Spec.DieWithParent.
const CanDieWithParent = false

func dieWithParent(*syscall.SysProcAttr) {}

// SetName does nothing.
func SetName(string) {}
