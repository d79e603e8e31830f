//go:build unix

package graceful

import (
	"os"
	"syscall"
)

var (
	quit    = []os.Signal{syscall.SIGQUIT}
	ignored = []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2} // by Go, if nothing takes them
)
