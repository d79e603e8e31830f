package process

import (
	"os"
	"path/filepath"
)

// Self is the path of the executable that this process runs, replaced on disk
// or not.
func Self() (string, error) {
	if _, err := os.Readlink("/proc/self/exe"); err == nil { // not Stat, which asks its file system
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// Executable is the path by which this process was started, so that what is
// there later, a new version or a link to one, is what a user would start again.
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
