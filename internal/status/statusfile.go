// Package status is what others can read of a superdaemon: the status file of Server::Starter 0.35,
// a line "generation:pid" for each worker that has started and lives, and a Report in JSON.
package status

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Worker is one line of the file.
type Worker struct{ Generation, PID int }

// Write replaces the file with a line for each worker.
func Write(path string, workers []Worker) error { return Replace(path, Encode(workers)) }

// Encode returns the text of the file.
func Encode(workers []Worker) []byte {
	text := []byte{}
	for _, w := range workers {
		text = fmt.Appendf(text, "%d:%d\n", w.Generation, w.PID)
	}
	return text
}

// Check returns an error if path exists and is not a regular file. It will be replaced and removed,
// which must not happen to a device or a FIFO.
func Check(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return errors.New("file exists and is not a regular file")
	}
	return nil // any other error is reported when the file is written
}

// Replace replaces a file atomically, by renaming path.PID over it. The mode is 0644 less the
// umask. If it fails, the temporary file is removed.
func Replace(path string, text []byte) error {
	temporary := path + "." + strconv.Itoa(os.Getpid())
	if err := create(temporary, text); err != nil {
		return fmt.Errorf("write status file: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(fmt.Errorf("write status file: %w", err), os.Remove(temporary))
	}
	return nil
}

// create writes a new file. A file of that name was left by a dead process that had the same pid,
// and is removed.
func create(path string, text []byte) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags, 0o644)
	if err == unix.EEXIST {
		if err = unix.Unlink(path); err == nil {
			fd, err = unix.Open(path, flags, 0o644)
		}
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	n, err := unix.Write(fd, text)
	if err == nil && n < len(text) {
		err = unix.ENOSPC
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return errors.Join(&os.PathError{Op: "write", Path: path, Err: err}, unix.Unlink(path))
	}
	return nil
}

// Read returns the workers in the order of the file. Like Server::Starter 0.35 it skips lines that
// are not generation:pid.
func Read(path string) ([]Worker, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read status file: %w", err)
	}
	var workers []Worker
	for line := range strings.Lines(string(text)) {
		generation, pid, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		g, errG := strconv.ParseUint(generation, 10, 31)
		p, errP := strconv.ParseUint(pid, 10, 31)
		if errG == nil && errP == nil {
			workers = append(workers, Worker{int(g), int(p)})
		}
	}
	return workers, nil
}
