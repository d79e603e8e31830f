package process

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
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

// checkFiles does to the files of a program what an exec does: $1 is its directory, then follow the
// paths it may be at. It is a shell script because a shell needs no thread.
const checkFiles = `cd "$1" || exit
shift
for file; do
	if test -f "$file" && read -r line <"$file"; then
		case $line in
		"#!"*)
			set -- ${line#??}
			test -f "$1" && read -r line <"$1"
		esac
	fi
done`

// answers checks the files in another process. If that cannot be started, nor can the program.
func (l *Launcher) answers(spec Spec) bool {
	read, write, err := Pipe()
	if err != nil {
		return true
	}
	files := slices.Collect(candidates(spec.Args[0], spec.Env))
	pid, err := StartAs(shell, Spec{
		Args:       append([]string{shell, "-c", checkFiles, shell, cmp.Or(spec.Dir, ".")}, files...),
		Files:      []uintptr{Closed, uintptr(write), Closed},
		Credential: spec.Credential, // it asks as the worker would
	})
	unix.Close(write)
	if err != nil {
		unix.Close(read)
		return true
	}
	l.answer = read
	if !l.answered(fileCheckTime) {
		return false // it is reaped like the orphans that become children
	}
	for err := error(unix.EINTR); err == unix.EINTR; { // it would count as a process yet (RLIMIT_NPROC)
		_, err = unix.Wait4(pid, nil, 0, nil)
	}
	return true
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
