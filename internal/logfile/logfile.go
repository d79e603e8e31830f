// Package logfile reads the values of --log-file: a file to append to, or a command to pipe into.
package logfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Open opens a log file for appending and returns its descriptor, in blocking mode and
// close-on-exec. A new file gets mode 0644 less the umask. In a world-writable directory a symbolic
// link is not followed. A FIFO without a reader is an error, since opening it would block.
func Open(path string) (int, error) {
	fd, err := open(path)
	if err != nil {
		return -1, fmt.Errorf("open log file %q: %w", path, err)
	}
	return fd, nil
}

func open(path string) (fd int, err error) {
	// O_NONBLOCK: waiting for the reader of a FIFO could take forever.
	flags := unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK
	public := worldWritable(filepath.Dir(path))
	if public {
		flags |= unix.O_NOFOLLOW
	}
	err = unix.EINTR
	for err == unix.EINTR {
		fd, err = unix.Open(path, flags, 0o644)
	}
	switch {
	case public && (err == unix.ELOOP || err == unix.EMLINK): // EMLINK on FreeBSD
		return -1, errors.New("symbolic link in a world-writable directory")
	case err == unix.ENXIO && isFIFO(path):
		return -1, errors.New("FIFO without a reader")
	case err != nil:
		return -1, err
	}
	// No other process shares this open file description yet, so the change affects none.
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func worldWritable(dir string) bool {
	st, err := os.Stat(dir)
	return err == nil && st.Mode().Perm()&0o002 != 0
}

func isFIFO(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&os.ModeNamedPipe != 0
}

// Command returns the command in a value of --log-file, and reports whether the value is a pipe, "|
// command" (Server::Starter 0.35: /^\s*\|\s*/s).
func Command(value string) (string, bool) {
	const space = "\t\n\v\f\r " // Perl's \s
	command, ok := strings.CutPrefix(strings.TrimLeft(value, space), "|")
	if !ok {
		return "", false
	}
	return strings.TrimLeft(command, space), true
}
