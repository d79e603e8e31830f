package process

import (
	"os"
	"path/filepath"
)

// selfLink leads to the executable of the process that follows it (proc_pid_exe(5)).
const selfLink = "/proc/self/exe"

// Self returns a path of the executable that this process runs, even if the file on disk was
// replaced.
func Self() (string, error) {
	if _, err := os.Readlink(selfLink); err == nil { // not Stat, which asks the executable's file system
		return selfLink, nil
	}
	return os.Executable()
}

// Executable returns the path by which this process was started. A later file at that path, a new
// version or a link to one, is what the same command would start.
func Executable() string {
	running, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	started, err := filepath.Abs(lookPath(os.Args[0], "", os.Environ()))
	if err != nil {
		return running
	}
	a, errA := os.Stat(started)
	b, errB := os.Stat(running)
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		return running
	}
	return started
}
