package process

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/start-server/start-server/internal/logfile"
)

// A trampoline is this same executable, started under another name, that
// becomes the program by execve. It does what only the child itself can do: say
// what its pid is, and stay a child with a pid if there is nothing to become.
const trampoline = "start_server: exec"

func startTrampoline(spec Spec) (int, error) {
	self, err := Self()
	if err != nil {
		return 0, err
	}
	args := append([]string{trampoline, spec.LogPrefix, spec.Dir}, spec.Args...)
	spec.Dir = "" // the trampoline goes there
	pid, err := spec.forkExec(self, args)
	return pid, forkError(err)
}

// init, not a call in main: a program that imports the superdaemon as a package has
// the trampoline in its executable as well.
func init() {
	if len(os.Args) >= 4 && os.Args[0] == trampoline {
		prefix, dir, args := os.Args[1], os.Args[2], os.Args[3:]
		line, status := execTarget(dir, args)
		_, _ = os.Stderr.Write(append(logfile.AppendPrefix(nil, prefix), line+"\n"...))
		os.Exit(status)
	}
}

// execTarget becomes the program. It returns only if that fails, with a line that reports it and the exit status.
func execTarget(dir string, args []string) (line string, status int) {
	// The superdaemon ignores SIGPIPE and so does its worker, but for this
	// runtime's own handler, which execve would set back to the default.
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
	return fmt.Sprintf("failed to exec %s: %v", args[0], err), StatusNotExecuted >> 8
}

// ownPID sets LISTEN_PID, if it is asked for, to the pid that the program
// is about to have: ours (sd_listen_fds(3)).
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
