package output

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// newTerminal returns both ends of a terminal.
func newTerminal(t *testing.T) (read, write int) {
	t.Helper()
	read, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	if err := unix.IoctlSetPointerInt(read, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(read, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	write, err = unix.Open(fmt.Sprintf("/dev/pts/%d", number), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return read, write
}
