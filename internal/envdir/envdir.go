// Package envdir reads a directory of environment variables as Server::Starter 0.35 does: each file
// is a variable, its first line the value.
package envdir

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Read returns the variables. Only the newline is removed from a first line; dotfiles and
// directories are skipped, and an empty file sets nothing. A file that cannot be a variable is
// skipped with an error that names it: one that cannot be read, a FIFO or device, a name with "=",
// a value with a NUL byte. If dir does not exist, there are no variables and no errors.
func Read(dir string) (map[string]string, []error) {
	variables := map[string]string{}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return variables, nil
	}
	names, err := list(dir)
	if err != nil {
		return variables, []error{fmt.Errorf("read envdir: %w", err)}
	}
	var errs []error
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			continue
		}
		path := filepath.Join(dir, name)
		value, set, err := read(path)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("read envdir: %w", err))
		case strings.Contains(name, "="):
			errs = append(errs, fmt.Errorf("read envdir: %q: \"=\" in the name of a variable", path))
		case strings.Contains(value, "\x00"):
			errs = append(errs, fmt.Errorf("read envdir: %q: NUL byte in the value of a variable", path))
		case set:
			variables[name] = value
		}
	}
	return variables, errs
}

// list returns the names in a directory, sorted.
func list(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// maxLine is the longest line, in bytes, that can be a value: execve(2) rejects longer ones
// (MAX_ARG_STRLEN).
const maxLine = 128 << 10

// read returns the first line of a file, and reports whether there is one.
func read(path string) (line string, set bool, err error) {
	// O_NONBLOCK: opening a FIFO, which is then rejected, must not block.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", false, err
	}
	if st.IsDir() { // such as lost+found
		return "", false, nil
	}
	if !st.Mode().IsRegular() {
		return "", false, fmt.Errorf("%q: not a regular file", path)
	}
	line, err = bufio.NewReader(io.LimitReader(f, maxLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false, err
	}
	if len(line) == maxLine && !strings.HasSuffix(line, "\n") {
		return "", false, fmt.Errorf("%q: first line too long for a variable", path)
	}
	return strings.TrimSuffix(line, "\n"), line != "", nil
}
