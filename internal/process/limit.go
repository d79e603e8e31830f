package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// DescriptorLimit returns how many descriptors a process can have, at most (the hard limit).
func DescriptorLimit() int { return limit(unix.RLIMIT_NOFILE) }

func limit(resource int) int {
	var l unix.Rlimit
	if err := unix.Getrlimit(resource, &l); err != nil || uint64(l.Max) > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(l.Max)
}

// DescriptorsNeeded returns the limit of descriptors that Start needs to pass these to a program.
// syscall.ForkExec moves those that are in the way, and a pipe of its own, beyond all others.
func DescriptorsNeeded(files []uintptr) int {
	highest, moved := len(files), 0
	for i, fd := range files {
		if fd == Closed {
			continue
		}
		highest = max(highest, int(fd))
		if int(fd) < i {
			moved++
		}
	}
	const pipe = 2 // ends
	return highest + 1 + pipe + moved
}

// fewDescriptors is a number of descriptors that leaves enough of any limit used in practice.
const fewDescriptors = 32

// RaiseDescriptorLimit raises the limit for programs that are started later with these descriptors,
// so that they can open as many others as without them. The Go runtime raises the soft limit of
// this process, and restores it for the programs that it starts: with 1,500 sockets under a limit
// of 1024 they could not even load their libraries.
func RaiseDescriptorLimit(files []uintptr) error {
	count := len(files)
	if count <= fewDescriptors {
		return nil
	}
	soft, err := childSoftLimit()
	if err != nil || count <= soft/2 {
		return err
	}
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	raise(&l.Cur, l.Max, max(soft+count, DescriptorsNeeded(files)+fewDescriptors))
	// Not package unix: only after a call of this one the Go runtime stops restoring the limit.
	return os.NewSyscallError("setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l))
}

// raise is generic because the fields of Rlimit are signed on some systems.
func raise[T int64 | uint64](soft *T, hard T, wanted int) { *soft = min(hard, T(wanted)) }

// childSoftLimit returns the soft limit of descriptors that programs are started with. The Go
// runtime does not expose it, so it starts one that prints it.
func childSoftLimit() (int, error) {
	read, write, err := Pipe()
	if err != nil {
		return 0, err
	}
	pid, err := StartAs(shell, Spec{Args: []string{shell, "-c", "ulimit -Sn"}, Files: []uintptr{Closed, uintptr(write)}})
	unix.Close(write)
	pipe := os.NewFile(uintptr(read), "pipe")
	defer pipe.Close()
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(pipe)
	for wait := error(unix.EINTR); wait == unix.EINTR; {
		_, wait = unix.Wait4(pid, nil, 0, nil)
	}
	if n, notNumber := strconv.Atoi(string(bytes.TrimSpace(text))); notNumber == nil {
		return n, err
	}
	return math.MaxInt32, err // unlimited
}

// LimitHint returns the limit behind an error of a system call, in parentheses, or "".
func LimitHint(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.EBADF):
		return fmt.Sprintf(" (RLIMIT_NOFILE is %s)", limitText(unix.RLIMIT_NOFILE))
	case errors.Is(err, unix.EAGAIN):
		return fmt.Sprintf(" (RLIMIT_NPROC is %s; TasksMax= or pids.max may be lower)", limitText(limitProcesses))
	}
	return ""
}

func limitText(resource int) string {
	if n := limit(resource); n < math.MaxInt32 {
		return strconv.Itoa(n)
	}
	return "unlimited"
}
