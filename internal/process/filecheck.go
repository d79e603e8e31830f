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

// ErrNotAnswering means that an operation was not tried because a file system does not answer.
var ErrNotAnswering = errors.New("its file system does not answer")

// fileCheckTime is how long to wait for file systems to answer; it allows for a busy machine. It is
// spent once: while a check is under way, the next one fails at once.
const fileCheckTime = 500 * time.Millisecond

// FileCheck keeps its owner from blocking on a file system that hangs. Unless the kernel has what
// is needed in its cache and on a local disk, a separate process tries first: a process that hangs
// can be abandoned, a thread that hangs cannot. The zero value is ready to use.
type FileCheck struct {
	answer int               // a pipe that the check under way closes at its end; 0 for none
	local  map[mountKey]bool // whether a mounted file system is a local one
}

// Start is like the function Start, but returns an ErrNotAnswering if that would block on a file
// system: forking lasts until the child has executed its program. Once the file system answers,
// Start succeeds again.
func (c *FileCheck) Start(spec Spec) (int, error) {
	if err := c.Program(spec); err != nil {
		return 0, err
	}
	return Start(spec)
}

// Program returns an ErrNotAnswering if starting the program would block on a file system.
func (c *FileCheck) Program(spec Spec) error {
	return c.check(spec.Args[0], func() bool { return c.isLocal(spec) }, func() Spec {
		files := slices.Collect(candidates(spec.Args[0], spec.Env))
		return Spec{
			Args:       append([]string{shell, "-c", checkProgram, shell, cmp.Or(spec.Dir, ".")}, files...),
			Credential: spec.Credential, // the checker has the permissions of the worker
		}
	})
}

// Dir returns an ErrNotAnswering if reading the files of a directory would block on a file system.
func (c *FileCheck) Dir(path string) error {
	local := func() bool {
		ok, _ := c.isLocalFile(path)
		return ok
	}
	return c.check(path, local, func() Spec {
		return Spec{Args: []string{shell, "-c", checkDir, shell, path}}
	})
}

// checkProgram reads the files of a program as an exec does: $1 is its directory, and the paths at
// which it may be follow. It is a shell script because a shell needs no threads.
const checkProgram = `cd "$1" || exit
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

// checkDir reads the first line of each file in a directory.
const checkDir = `cd "$1" || exit
for file in *; do
	test -f "$file" && read -r line <"$file"
done`

func (c *FileCheck) check(name string, isLocal func() bool, checker func() Spec) error {
	if c.answer != 0 && !c.answered(0) || !isLocal() && !c.run(checker()) {
		return fmt.Errorf("%s: %w", name, ErrNotAnswering)
	}
	return nil
}

// run runs a check. If the check cannot be started, it reports true: then a program cannot be
// started either, and nothing hangs.
func (c *FileCheck) run(checker Spec) (answered bool) {
	read, write, err := Pipe()
	if err != nil {
		return true
	}
	checker.Files = []uintptr{Closed, uintptr(write), Closed}
	pid, err := StartAs(shell, checker)
	unix.Close(write)
	if err != nil {
		unix.Close(read)
		return true
	}
	c.answer = read
	if !c.answered(fileCheckTime) {
		return false // it is reaped later, like orphans that become children
	}
	for err := error(unix.EINTR); err == unix.EINTR; { // until then it counts as a process (RLIMIT_NPROC)
		_, err = unix.Wait4(pid, nil, 0, nil)
	}
	return true
}

// answered waits at most limit for the check under way to end, and reports whether it has.
func (c *FileCheck) answered(limit time.Duration) bool {
	poll := []unix.PollFd{{Fd: int32(c.answer), Events: unix.POLLIN}}
	for end := time.Now().Add(limit); ; {
		n, err := unix.Poll(poll, max(int(time.Until(end).Milliseconds()), 0))
		if n > 0 {
			break
		}
		if err != unix.EINTR {
			return false
		}
	}
	unix.Close(c.answer)
	c.answer = 0
	return true
}

// isLocal reports whether starting the program involves no file system that may hang.
func (c *FileCheck) isLocal(spec Spec) bool {
	if spec.Dir != "" {
		if ok, _ := c.isLocalFile(spec.Dir); !ok {
			return false
		}
	}
	for file := range candidates(spec.Args[0], spec.Env) {
		file = inDir(spec.Dir, file)
		ok, exists := c.isLocalFile(file)
		if !ok {
			return false
		}
		if exists && isExecutable(file) {
			return c.areInterpretersLocal(file, spec.Dir)
		}
	}
	return true
}

func (c *FileCheck) areInterpretersLocal(file, dir string) bool {
	for range maxInterpreters {
		if file = interpreter(file); file == "" {
			break
		}
		file = inDir(dir, file)
		if ok, _ := c.isLocalFile(file); !ok {
			return false
		}
	}
	return true
}

// maxInterpreters is how many interpreters in a row may be scripts (execve(2)).
const maxInterpreters = 5

// interpreter reads the beginning of a program, as an exec does, and returns the interpreter of a
// script. It returns "" for any other file.
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
	var start [256]byte // as much as the kernel reads
	n, _ := unix.Read(fd, start[:])
	line, _, _ := bytes.Cut(start[:max(n, 0)], []byte("\n"))
	line, script := bytes.CutPrefix(line, []byte("#!"))
	words := bytes.Fields(line)
	if !script || len(words) == 0 {
		return ""
	}
	return string(words[0])
}
