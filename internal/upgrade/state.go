package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/listening"
	"github.com/start-server/start-server/internal/manager"
	"github.com/start-server/start-server/internal/output"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/supervisor"
	"github.com/start-server/start-server/internal/workers"
)

// Version is increased if a superdaemon that reads the previous version would do something wrong.
// New fields do not increase it: they are zero if the previous superdaemon did not have them. Names
// of fields and numbers of phases never change.
const Version = 1

// State is what crosses an upgrade: the state of the supervisor and of each part, and the
// descriptors, which stay open across the exec.
type State struct {
	Version    int             `json:"version"`
	Args       []string        `json:"args"`       // the command line
	Config     json.RawMessage `json:"config"`     // the meaning of the command line
	Executable string          `json:"executable"` // the path of the superdaemon

	State   supervisor.State `json:"state"`
	Now     time.Duration    `json:"now"`     // the supervisor's clock
	Signals []syscall.Signal `json:"signals"` // received and not acted on yet
	Notices []workers.Notice `json:"notices"` // likewise

	listening.SocketState
	workers.WorkerState
	manager.QueueState
	Log output.State `json:"log"`
	Files
	GuardPipe int `json:"guard_pipe,omitempty"` // written by the first 1.0.0 builds: a descriptor to close
}

// Files is the state of the pid file and the status file.
type Files struct {
	PIDFile       int  `json:"pid_file"` // descriptor, -1 for none
	StatusWritten bool `json:"status_written"`
	StatusPending bool `json:"status_pending"` // the status file could not be written
}

// descriptors returns the descriptors that must stay open across the exec.
func (s *State) descriptors() []int {
	fds := slices.Concat(s.SocketState.Descriptors(), s.WorkerState.Descriptors(), s.Log.Descriptors())
	if s.PIDFile >= 0 {
		fds = append(fds, s.PIDFile)
	}
	if s.GuardPipe > 0 {
		fds = append(fds, s.GuardPipe)
	}
	return fds
}

// probeVariable is set in the environment of a candidate, which is checked before an upgrade.
const probeVariable = "START_SERVER_PROBE"

// BeingChecked reports whether this process is the candidate of an upgrade.
func BeingChecked() bool { return os.Getenv(probeVariable) != "" }

// answerPrefix begins the answer of a candidate that is compatible. Other programs do not print it.
const answerPrefix = "compatible start_server, state version "

// Read reads the state from the descriptor in an environment variable. It removes the
// variable. It returns nil if there is no such variable.
func Read(variable string) (*State, error) {
	value, ok := os.LookupEnv(variable)
	if !ok {
		return nil, nil
	}
	_ = os.Unsetenv(variable)
	fd, err := strconv.Atoi(value)
	if err != nil || fd <= process.Stderr {
		return nil, fmt.Errorf("upgrade: %s=%q is not a descriptor", variable, value)
	}
	defer unix.Close(fd)
	return readStateFile(fd)
}

// readStateFile reads the state from a file.
func readStateFile(fd int) (*State, error) {
	unix.CloseOnExec(fd)
	text, err := readWhole(fd)
	if err != nil {
		return nil, fmt.Errorf("upgrade: read the state: %w", err)
	}
	s, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	return s, nil
}

func readWhole(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	text := make([]byte, st.Size)
	for n := 0; n < len(text); {
		more, err := unix.Pread(fd, text[n:], int64(n))
		if err != nil {
			return nil, err
		}
		if more == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		n += more
	}
	return text, nil
}

func parse(text []byte) (*State, error) {
	s := &State{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	if s.Version != Version {
		return nil, fmt.Errorf("the state has version %d, want %d", s.Version, Version)
	}
	if err := s.State.Check(s.Now); err != nil {
		return nil, err
	}
	return s, s.check()
}

// check returns an error if a superdaemon cannot continue from the state.
func (s *State) check() error {
	limit := process.DescriptorLimit()
	if err := s.SocketState.Check(limit); err != nil {
		return err
	}
	taken := map[int]bool{}
	for _, fd := range slices.Concat(s.descriptors(), s.Inherited) {
		if fd <= process.Stderr || fd >= limit || taken[fd] {
			return fmt.Errorf("descriptor %d is out of range or used twice", fd)
		}
		taken[fd] = true
	}
	err := s.WorkerState.Check(func(pid int) bool {
		return slices.ContainsFunc(s.State.Workers(), func(w *supervisor.Worker) bool { return w.PID == pid })
	})
	if err := errors.Join(err, s.Log.Check()); err != nil {
		return err
	}
	if !filepath.IsAbs(s.Executable) {
		return fmt.Errorf("the path of the executable is %q", s.Executable)
	}
	return nil
}

// write replaces the content of a file with the state.
func (s *State) write(descriptor int) error {
	text, err := json.Marshal(s)
	if err == nil && bytes.Contains(text, []byte(`\ufffd`)) {
		err = errors.New("a name is not UTF-8 and would change")
	}
	if err == nil {
		err = unix.Ftruncate(descriptor, 0)
	}
	for written := 0; err == nil && written < len(text); {
		var n int
		n, err = unix.Pwrite(descriptor, text[written:], int64(written))
		written += max(n, 0)
	}
	if err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	return nil
}

// ToCheck returns the state of the running superdaemon if this process is the candidate of an
// upgrade, else nil.
func ToCheck() (*State, error) { return Read(probeVariable) }

// Answer writes to w that this process can continue from the state.
func Answer(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s%d\n", answerPrefix, Version)
	return err
}

// Adopt makes the descriptors those of this process, which no child inherits.
func (s *State) Adopt() {
	keepOpen(s.descriptors(), false)
	if s.GuardPipe > 0 {
		unix.Close(s.GuardPipe)
	}
}

// Execute passes the state on in a file and becomes the executable. It returns only if that fails,
// and then everything is as before. From IgnoreAll on signals are lost; those that received returns
// are in the state. So it does everything else first. mark is called before and after that time.
func (s *State) Execute(file int, mark func(begin bool), received func() []syscall.Signal) error {
	if err := s.write(file); err != nil {
		return err
	}
	kept := append(s.descriptors(), file)
	keepOpen(kept, true)
	defer keepOpen(kept, false)
	env := append(os.Environ(), signals.Variable+"="+strconv.Itoa(file))

	mark(true)
	defer mark(false)
	signals.AwaitDelivery()
	restore := signals.IgnoreAll()
	defer restore()
	if s.Signals = received(); len(s.Signals) > 0 {
		if err := s.write(file); err != nil {
			return err
		}
	}
	return fmt.Errorf("execute %s: %w", s.Executable, syscall.Exec(s.Executable, os.Args, env))
}

// keepOpen sets whether descriptors stay open across an exec.
func keepOpen(fds []int, open bool) {
	flag := unix.FD_CLOEXEC
	if open {
		flag = 0
	}
	for _, fd := range fds {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag)
	}
}
