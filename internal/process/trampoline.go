package process

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/start-server/start-server/internal/logfile"
	"github.com/start-server/start-server/internal/waitstatus"
)

// A trampoline is this same executable, started under another name, that becomes the program by
// execve. It does what only the child itself can do: put its pid into the environment, and be a
// child with a pid even if the program cannot be executed.
const trampoline = "start_server: exec"

func startTrampoline(spec Spec) (int, error) {
	self, err := Self()
	if err != nil {
		return 0, err
	}
	args := append([]string{trampoline, spec.LogPrefix, spec.Dir}, spec.Args...)
	spec.Dir = "" // the trampoline changes to it
	pid, err := spec.forkExec(self, args)
	return pid, forkError(err)
}

// IsTrampoline reports whether a child has not executed its program yet, or has ended and was not
// reaped: then it may never have. It reports false if /proc does not show that. It reads what does
// not need the memory of the child, which may hang.
func IsTrampoline(pid int) bool {
	own, err := os.Readlink(selfLink)
	if err != nil {
		return false
	}
	file, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || file != own {
		_, unseen := os.Lstat(fmt.Sprintf("/proc/%d", pid))    // hidepid of proc(5)
		return errors.Is(err, os.ErrNotExist) && unseen == nil // a zombie executes nothing
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && string(name) == filepath.Base(selfLink)+"\n"
}

// init, not a call in main: every program that imports the superdaemon as a package includes the
// trampoline.
func init() {
	if len(os.Args) >= 4 && os.Args[0] == trampoline {
		prefix, dir, args := os.Args[1], os.Args[2], os.Args[3:]
		line, status := execTarget(dir, args)
		_, _ = os.Stderr.Write(append(logfile.AppendPrefix(nil, prefix), line+"\n"...))
		os.Exit(status)
	}
}

// execTarget becomes the program. It returns only if that fails, with a line that reports it and
// the exit status.
func execTarget(dir string, args []string) (line string, status int) {
	// A worker inherits that SIGPIPE is ignored. The Go runtime of the trampoline has installed a
	// handler for it, which execve would reset to the default.
	signal.Ignore(syscall.SIGPIPE)
	if dir != "" {
		if err := os.Chdir(dir); err != nil {
			return fmt.Sprintf("failed to chdir:%s:%v", dir, errno(err)), int(errno(err))
		}
	}
	env := ownPID(os.Environ())
	path := lookPath(args[0], "", env)
	err := syscall.Exec(path, args, env)
	if err == syscall.ENOEXEC {
		err = syscall.Exec(shell, shellArgs(path, args), env)
	}
	return fmt.Sprintf("failed to exec %s: %v", args[0], err), waitstatus.NotExecuted >> 8
}

// ownPID sets LISTEN_PID, if it is in env, to the pid of this process, which the program will have
// (sd_listen_fds(3)).
func ownPID(env []string) []string {
	return slices.Collect(func(yield func(string) bool) {
		for _, word := range env {
			if strings.HasPrefix(word, "LISTEN_PID=") {
				word = "LISTEN_PID=" + strconv.Itoa(os.Getpid())
			}
			if !yield(word) {
				return
			}
		}
	})
}

func errno(err error) syscall.Errno {
	for {
		switch e := err.(type) {
		case syscall.Errno:
			return e
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		default:
			return syscall.EIO
		}
	}
}
