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

// Write replaces the file as a whole, by renaming path.PID over it, ordered by generation. Its mode is 0644 less the umask. The
// temporary file does not survive a failure.
func Write(path string, workers []Worker) error {
	workers = slices.SortedFunc(slices.Values(workers), func(a, b Worker) int { return cmp.Compare(a.Generation, b.Generation) })
	var text strings.Builder
	for _, w := range workers {
		fmt.Fprintf(&text, "%d:%d\n", w.Generation, w.PID)
	}
	temporary := path + "." + strconv.Itoa(os.Getpid())
	if err := create(temporary, text.String()); err != nil {
		return fmt.Errorf("write status file: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(fmt.Errorf("write status file: %w", err), os.Remove(temporary))
	}
	return nil
}

// create writes a file that was not there before. One of the same name was left by a dead process that had our pid.
func create(path, text string) error {
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
	n, err := unix.Write(fd, []byte(text))
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
