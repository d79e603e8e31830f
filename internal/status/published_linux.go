package status

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/procfs"
)

// publishedName is the name of the file in memory, and publishedLink what /proc/PID/fd shows of it.
const (
	publishedName = "start_server-status"
	publishedLink = "/memfd:" + publishedName + " (deleted)"
)

// Published is a Report in JSON that others read without a file system: a descriptor of this process
// in /proc/PID/fd, a file in memory. Reading it needs the same user (or root), as a signal does. It
// is closed by execve(2).
type Published struct {
	fd     int // 0 for none
	latest []byte
}

// Write replaces the text. Each text is in a file of its own, which takes the place of the one before
// in one system call: one that is whole is there at any time. If there is no memory or no descriptor for
// it, the text before stays until the next call.
func (p *Published) Write(text []byte) {
	if bytes.Equal(text, p.latest) {
		return
	}
	fd, err := unix.MemfdCreate(publishedName, unix.MFD_CLOEXEC)
	if err != nil {
		return
	}
	if n, err := unix.Write(fd, text); err != nil || n < len(text) {
		unix.Close(fd)
		return
	}
	if p.fd == 0 {
		p.fd, p.latest = fd, text
		return
	}
	if unix.Dup3(fd, p.fd, unix.O_CLOEXEC) == nil {
		p.latest = text
	}
	unix.Close(fd)
}

// Close closes the descriptor.
func (p *Published) Close() {
	if p.fd > 0 {
		unix.Close(p.fd)
	}
	p.fd, p.latest = 0, nil
}

// ErrNotPublished is returned by ReadPublished for a process that has published nothing.
var ErrNotPublished = errors.New("it publishes none: it is not up yet, or Perl's")

// ReadPublished reads the Report that a process has published.
func ReadPublished(pid int) (Report, error) {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	links, err := procfs.Names(dir)
	if err != nil {
		return Report{}, err
	}
	for _, link := range links {
		if target, _ := os.Readlink(dir + link); target != publishedLink {
			continue
		}
		// After an error: it is the file that Write is writing, and the one before is there as well.
		if r, err := readDescriptor(dir + link); err == nil && r.Superdaemon.PID == pid {
			return r, nil
		}
	}
	return Report{}, ErrNotPublished
}

// readDescriptor reads the Report in a descriptor of a process. It may be another file by now, a
// pipe, from which nothing must be read.
func readDescriptor(path string) (Report, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return Report{}, err
	}
	defer unix.Close(fd)
	own := fmt.Sprintf("/proc/self/fd/%d", fd)
	if target, _ := os.Readlink(own); target != publishedLink {
		return Report{}, ErrNotPublished
	}
	return ReadReport(own)
}
