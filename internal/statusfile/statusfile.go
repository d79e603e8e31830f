// Package statusfile keeps the status file of a superdaemon: a line "generation:pid" for each worker that has started and lives, as
// by Server::Starter 0.35.
package statusfile

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Worker is one line of the file.
type Worker struct{ Generation, PID int }

// Write replaces the file by a line for each worker, ordered by generation.
func Write(path string, workers []Worker) error { return Replace(path, Encode(workers)) }

// Encode returns the text of the file.
func Encode(workers []Worker) []byte {
	workers = slices.SortedFunc(slices.Values(workers), func(a, b Worker) int { return cmp.Compare(a.Generation, b.Generation) })
	text := []byte{}
	for _, w := range workers {
		text = fmt.Appendf(text, "%d:%d\n", w.Generation, w.PID)
	}
	return text
}

// Check returns an error if path is anything else than a regular file, or nothing: it will be replaced and
// removed, and a device or FIFO of that name has another purpose.
func Check(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return errors.New("file exists and is not a regular file")
	}
	return nil // what cannot be reached cannot be replaced: that is found out when it is written
}

// Replace replaces a file as a whole, by renaming path.PID over it. Its mode is 0644 less the umask. The
// temporary file does not survive a failure.
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

// create writes a file that was not there before. One of the same name was left by a dead process that had our pid.
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

// Read returns the workers in the order of the file. Lines that are no generation:pid are skipped, as Server::Starter 0.35 does.
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
