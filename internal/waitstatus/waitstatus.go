// Package waitstatus has the wait statuses of workers: raw, as wait4(2) returns them.
package waitstatus

import (
	"fmt"
	"strconv"
	"syscall"

	"github.com/start-server/start-server/internal/signame"
)

// Unknown is the status of a worker that is not a child.
const Unknown = -1

// NotExecuted is the status of a child whose program cannot be executed.
const NotExecuted = 255 << 8

// MayBeDirectory reports whether a status may be that of a child whose directory was the reason
// that its program was not executed. A program may exit with the same status.
func MayBeDirectory(status int) bool {
	switch syscall.Errno(status >> 8) {
	case syscall.ENOENT, syscall.ENOTDIR, syscall.EACCES, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EIO, syscall.ESTALE:
		return true
	}
	return false
}

// Number returns a status as the log has it.
func Number(status int) string {
	if status == Unknown {
		return "unknown"
	}
	return strconv.Itoa(status)
}

// Describe returns a status in words.
func Describe(status int) string {
	if status == Unknown {
		return "exit status unknown"
	}
	ws := syscall.WaitStatus(status)
	if ws.Signaled() {
		return "killed by " + signame.Of(ws.Signal())
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}
