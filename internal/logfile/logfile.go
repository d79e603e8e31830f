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

// Open opens a log file for appending and returns its descriptor, in blocking mode and closed on exec. A new file gets mode 0644 less
// the umask. In a folder that everybody may write to, a symbolic link is not followed. A FIFO that nobody reads is an error: the
// start would hang there.
func Open(path string) (int, error) {
	fd, err := open(path)
	if err != nil {
		return -1, fmt.Errorf("open log file %q: %w", path, err)
	}
	return fd, nil
}

func open(path string) (fd int, err error) {
	// O_NONBLOCK: to wait for the reader of a FIFO could take for ever.
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
	case public && (err == unix.ELOOP || err == unix.EMLINK): // FreeBSD says EMLINK
		return -1, errors.New("it is a symbolic link in a folder that everybody may write to")
	case err == unix.ENXIO && isFIFO(path):
		return -1, errors.New("it is a FIFO that nobody reads")
	case err != nil:
		return -1, err
	}
	// This open file description is our own: nobody else sees the change.
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

// Command reports whether a value of --log-file is a pipe, "| command", and what the command is (Server::Starter 0.35: /^\s*\|\s*/s).
func Command(value string) (string, bool) {
	const space = "\t\n\v\f\r " // Perl's \s
	command, ok := strings.CutPrefix(strings.TrimLeft(value, space), "|")
	if !ok {
		return "", false
	}
	return strings.TrimLeft(command, space), true
}
