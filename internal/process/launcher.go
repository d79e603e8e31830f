package process

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotAnswering says that a program was not started because the file system that it or its
// directory is on does not answer.
var ErrNotAnswering = errors.New("its file system does not answer")

// fileCheckTime is the time that the file systems of a program have to answer.
const fileCheckTime = 200 * time.Millisecond

// Launcher starts programs like Start, but does not wait for a file system that hangs: a fork lasts
// until the child has executed its program, and nothing else happens meanwhile. Unless the kernel
// has all it needs in its cache and on a local disk, a process of its own looks first. Its zero
// value is ready.
type Launcher struct {
	answer int               // the pipe that a check under way closes at its end; 0 for none
	local  map[mountKey]bool // whether what is mounted is a local file system
}

// Start is like the function Start, and returns an ErrNotAnswering if that would wait for a file
// system. If it is slow and answers later, Start works then.
func (l *Launcher) Start(spec Spec) (int, error) {
	if err := l.Check(spec); err != nil {
		return 0, err
	}
	return Start(spec)
}

// Check returns an ErrNotAnswering if starting the program would wait for a file system.
func (l *Launcher) Check(spec Spec) error {
	if l.answer != 0 && !l.answered(0) || !l.isLocal(spec) && !l.answers(spec) {
		return fmt.Errorf("%s: %w", spec.Args[0], ErrNotAnswering)
	}
	return nil
}

// answers checks the files in another process. If that cannot be started, nor can the program.
func (l *Launcher) answers(spec Spec) bool {
	read, write, err := Pipe()
	if err != nil {
		return true
	}
	_, err = startFileCheck(spec, uintptr(write))
	unix.Close(write)
	l.answer = read
	return err != nil || l.answered(fileCheckTime)
}

// answered reports whether the check under way has ended, for which it waits up to limit.
func (l *Launcher) answered(limit time.Duration) bool {
	poll := []unix.PollFd{{Fd: int32(l.answer), Events: unix.POLLIN}}
	for end := time.Now().Add(limit); ; {
		n, err := unix.Poll(poll, max(int(time.Until(end).Milliseconds()), 0))
		if n > 0 {
			break
		}
		if err != unix.EINTR {
			return false
		}
	}
	unix.Close(l.answer)
	l.answer = 0
	return true
}

// isLocal reports whether starting the program needs no file system that may hang.
func (l *Launcher) isLocal(spec Spec) bool {
	if spec.Dir != "" {
		if ok, _ := l.isLocalFile(spec.Dir); !ok {
			return false
		}
	}
	for file := range candidates(spec.Args[0], spec.Env) {
		file = inDir(spec.Dir, file)
		ok, exists := l.isLocalFile(file)
		if !ok {
			return false
		}
		if exists && isExecutable(file) {
			return l.areInterpretersLocal(file, spec.Dir)
		}
	}
	return true
}

func (l *Launcher) areInterpretersLocal(file, dir string) bool {
	for range maxInterpreters {
		if file = interpreter(file); file == "" {
			break
		}
		file = inDir(dir, file)
		if ok, _ := l.isLocalFile(file); !ok {
			return false
		}
	}
	return true
}

// maxInterpreters is how many scripts may be the interpreters of each other (execve(2)).
const maxInterpreters = 5

// interpreter reads what an exec reads of a program, the first page, and returns the interpreter of
// a script. It returns "" for any other file.
func interpreter(file string) string {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	var start [256]byte // as much as the kernel looks at
	n, _ := unix.Read(fd, start[:])
	line, _, _ := bytes.Cut(start[:max(n, 0)], []byte("\n"))
	line, script := bytes.CutPrefix(line, []byte("#!"))
	words := bytes.Fields(line)
	if !script || len(words) == 0 {
		return ""
	}
	return string(words[0])
}
