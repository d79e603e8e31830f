// Package process starts programs with descriptors at chosen numbers, looking them up as execvp(3)
// does, and reaps them. It does not use os/exec, which would reap children itself.
package process

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Closed marks a number in Spec.Files that is to be closed.
const Closed = ^uintptr(0)

// Spec is a program to start.
type Spec struct {
	Args         []string  // the program, looked up in the PATH of Env if it has no slash, and its arguments
	Env          []string  // "NAME=value"
	Dir          string    // the working directory; "" for that of this process
	Files        []uintptr // by the child's number, Closed for a closed one
	SetListenPID bool      // replace LISTEN_PID in Env with the pid of the program
	LogPrefix    string    // of the line that reports that it cannot be executed, see logfile.AppendPrefix
	Session      bool      // start it in a session of its own
	Group        int       // the process group to start it in; 0 for that of this process, or OwnGroup

	Credential    *syscall.Credential // the user that runs it; nil for that of this process
	DieWithParent bool                // it gets KILL if the thread that starts it ends (CanDieWithParent)
}

// OwnGroup starts a program in a process group of its own.
const OwnGroup = -1

// The descriptors of standard output and error.
const (
	Stdout = 1
	Stderr = 2
)

// ErrFork means that no further process could be created; the program is not the cause.
var ErrFork = errors.New("fork(2) failed")

// Start starts a program and returns its pid. If the program cannot be executed, there is a child
// all the same, as in Server::Starter 0.35: it writes the reason to its standard error and exits
// with status 255, or with the errno if the directory was the reason. An error is an ErrFork, or
// means that not even that child could be created.
//
// Forking lasts until the child has executed something, so this process starts programs on local
// disks only. For any other file the child begins as a trampoline, and waits alone if the file
// system hangs.
func Start(spec Spec) (int, error) {
	if !spec.SetListenPID && spec.isSurelyLocal() {
		pid, err := spec.forkExec(lookPath(spec.Args[0], spec.Dir, spec.Env), spec.Args)
		if err == nil || isFork(err) {
			return pid, forkError(err)
		}
	}
	return startTrampoline(spec)
}

// StartAs starts the executable at path, which is not looked up. spec.Args[0] is only its name.
func StartAs(path string, spec Spec) (int, error) {
	pid, err := spec.forkExec(path, spec.Args)
	return pid, forkError(err)
}

func (spec Spec) forkExec(path string, args []string) (int, error) {
	attr := &syscall.ProcAttr{
		Dir: spec.Dir, Env: spec.Env, Files: spec.Files,
		Sys: &syscall.SysProcAttr{Setsid: spec.Session, Credential: spec.Credential},
	}
	if spec.Group != 0 {
		attr.Sys.Setpgid, attr.Sys.Pgid = true, max(spec.Group, 0)
	}
	if spec.DieWithParent {
		dieWithParent(attr.Sys)
	}
	if spec.Credential != nil {
		defer keepDumpable()()
	}
	pid, err := syscall.ForkExec(path, args, attr)
	if err == syscall.ENOEXEC {
		pid, err = syscall.ForkExec(shell, shellArgs(path, args), attr)
	}
	return pid, err
}

// shell runs executables without a magic number, as execvp(3) has it.
const shell = "/bin/sh"

func shellArgs(path string, args []string) []string {
	return append([]string{args[0], path}, args[1:]...)
}

func isFork(err error) bool {
	return err == syscall.EAGAIN || err == syscall.ENOMEM || err == syscall.EMFILE || err == syscall.ENFILE
}

func forkError(err error) error {
	switch {
	case err == nil:
		return nil
	case isFork(err):
		return fmt.Errorf("%w: %w%s", ErrFork, err, LimitHint(err))
	}
	return fmt.Errorf("start process: %w", err)
}

// lookPath looks up a program as execvp(3) does in dir, by the PATH of the environment that it will
// have. For a bare name that is in no directory of PATH it returns "", which execve rejects with
// ENOENT; given the name, execve would find a file in the working directory.
func lookPath(program, dir string, env []string) string {
	found := ""
	for file := range candidates(program, env) {
		if file == program {
			return program // it has a slash
		}
		switch path := inDir(dir, file); {
		case isExecutable(path):
			return file
		case found == "" && isRegular(path):
			found = file // execve will report that permission is denied
		}
	}
	return found
}

func isRegular(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

func isExecutable(path string) bool { return isRegular(path) && unix.Access(path, unix.X_OK) == nil }

// candidates returns the paths at which to look for a program, in order.
func candidates(program string, env []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if program == "" || strings.Contains(program, "/") {
			yield(program)
			return
		}
		path := "/bin:/usr/bin"
		for _, word := range env {
			if value, ok := strings.CutPrefix(word, "PATH="); ok {
				path = value
			}
		}
		for dir := range strings.SplitSeq(path, ":") {
			if !yield(cmp.Or(dir, ".") + "/" + program) {
				return
			}
		}
	}
}

// inDir returns the path, relative to the working directory, of a file named relative to dir.
func inDir(dir, file string) string {
	if dir == "" || strings.HasPrefix(file, "/") {
		return file
	}
	return dir + "/" + file
}
