//go:build !linux

package process

import (
	"errors"
	"os"
)

// CanChangeUser returns an error if this process cannot start, and signal, processes of other
// users.
func CanChangeUser() error {
	if os.Geteuid() != 0 {
		return errors.New("requires root")
	}
	return nil
}

func keepDumpable() (restore func()) { return func() {} }
