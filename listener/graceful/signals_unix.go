//go:build unix

package graceful

import (
	"os"
	"syscall"
)

var quit = []os.Signal{syscall.SIGQUIT}
