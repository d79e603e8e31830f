// Package daemon detaches a program from the terminal that started it. It starts the program again
// in a session of its own and waits until that one reports that it is ready.
package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/process"
)

// variable holds, in the detached program, the descriptor to report on that it is ready.
const variable = "START_SERVER_DETACHED"

// ErrStartFailed means that the detached program ended before it was ready. It has written the
// reason to standard error.
var ErrStartFailed = errors.New("detached start_server failed to start")

// Detach starts this program with the same arguments in a session of its own, with standard input
// from /dev/null, and returns when it is ready.
func Detach() error {
	read, write, err := process.Pipe()
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	defer unix.Close(read)
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("detach: open /dev/null: %w", err)
	}
	defer unix.Close(null)
	self, err := process.Self()
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	files, number := arrange(null, write)
	_, err = process.StartAs(self, process.Spec{
		Args:    os.Args,
		Env:     append(os.Environ(), variable+"="+strconv.Itoa(number)),
		Files:   files,
		Session: true,
	})
	unix.Close(write)
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	return await(read)
}

// arrange returns the descriptors of the detached program: all that this one inherited and, at
// number, write, to report on that it is ready.
func arrange(null, write int) (files []uintptr, number int) {
	files = []uintptr{uintptr(null), 1, 2}
	for _, fd := range process.Inherited() {
		for len(files) <= fd {
			files = append(files, process.Closed)
		}
		files[fd] = uintptr(fd)
	}
	return append(files, uintptr(write)), len(files)
}

func await(read int) error {
	var buf [1]byte
	for {
		n, err := unix.Read(read, buf[:])
		if err == unix.EINTR {
			continue
		}
		if n == 1 {
			return nil
		}
		return ErrStartFailed
	}
}

// Parent is the pipe to the program that waits in Detach. The zero Parent is no program.
type Parent struct{ fd int }

// Detached reports whether this program was started by Detach, and returns its parent. Only the
// first call does: it removes the variable from the environment.
func Detached() (Parent, bool) {
	value, ok := os.LookupEnv(variable)
	if !ok {
		return Parent{}, false
	}
	_ = os.Unsetenv(variable)
	fd, err := strconv.Atoi(value)
	if err != nil || fd <= 2 {
		return Parent{}, false
	}
	unix.CloseOnExec(fd)
	adoptName()
	return Parent{fd}, true
}

// adoptName gives this process the name of its parent, which waits in Detach. Executed as
// /proc/self/exe it is named "exe", and pgrep(1) and pkill(1) would not find it.
func adoptName() {
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", os.Getppid())); err == nil {
		_ = os.WriteFile("/proc/self/comm", bytes.TrimSuffix(name, []byte("\n")), 0)
	}
}

// NotifyReady reports to the parent that the program is ready.
func (p Parent) NotifyReady() {
	if p.fd > 0 {
		_, _ = unix.Write(p.fd, []byte{'\n'})
		unix.Close(p.fd)
	}
}
