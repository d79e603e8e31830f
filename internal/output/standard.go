package output

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/process"
)

// keepStandard returns copies of standard output and error: those of the process, or of /dev/null if
// it is detached, since the terminal must not wait for a log command.
func keepStandard(detached bool) (kept [2]int, err error) {
	for i, fd := range []int{process.Stdout, process.Stderr} {
		if detached {
			kept[i], err = unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		} else {
			kept[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		}
		if err != nil {
			if i > 0 {
				unix.Close(kept[0])
			}
			return kept, fmt.Errorf("copy descriptor %d, which the log replaces: %w", fd, err)
		}
	}
	return kept, nil
}

// Keep keeps the present standard output and error, and returns a function that restores them.
func Keep() (giveBack func(), err error) {
	kept, err := keepStandard(false)
	if err != nil {
		return nil, err
	}
	return func() {
		for i, fd := range []int{process.Stdout, process.Stderr} {
			_ = process.Dup2(kept[i], fd)
			unix.Close(kept[i])
		}
	}, nil
}
