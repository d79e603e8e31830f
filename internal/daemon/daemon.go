// Package daemon detaches a program from the terminal that started it: by
// starting it again in a session of its own and waiting until it says that it
// is up.
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

// variable holds, in the detached program, the descriptor to say that it is up.
const variable = "START_SERVER_DETACHED"

// ErrStartFailed says that the detached program ended before it was up. It has reported why
// on standard error.
var ErrStartFailed = errors.New("the detached start_server did not come up")

// Detach starts this program with its own arguments in a session of its own,
// standard input from /dev/null, and returns when it is up.
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

// arrange gives the detached program everything that this one was given, and
// the descriptor to say that it is up, at number.
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
	var word [1]byte
	for {
		n, err := unix.Read(read, word[:])
		if err == unix.EINTR {
			continue
		}
		if n == 1 {
			return nil
		}
		return ErrStartFailed
	}
}

// Parent is the end of the pipe to the program that waits until we are up. The
// zero Parent is none.
type Parent struct{ fd int }

// Detached reports whether this program was started by Detach. It does so once, and removes the sign.
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

// adoptName names this process like its parent, which waits in Detach. Being executed as
// /proc/self/exe it is called "exe", by which pgrep(1) and pkill(1) do not find it.
func adoptName() {
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", os.Getppid())); err == nil {
		_ = os.WriteFile("/proc/self/comm", bytes.TrimSuffix(name, []byte("\n")), 0)
	}
}

// NotifyReady says that the program is up.
func (p Parent) NotifyReady() {
	if p.fd > 0 {
		_, _ = unix.Write(p.fd, []byte{'\n'})
		unix.Close(p.fd)
	}
}
