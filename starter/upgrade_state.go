package starter

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

	"github.com/start-server/start-server/internal/copies"
	"github.com/start-server/start-server/internal/logfile"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/socket"
	"github.com/start-server/start-server/internal/steer"
)

// upgradeStateVersion is increased if a superdaemon that reads the previous version would do
// something wrong. New fields do not increase it: they are zero if the previous superdaemon did not
// have them. Names of fields and numbers of phases never change.
const upgradeStateVersion = 1

// upgradeState is the state that crosses an upgrade: that of the supervisor, and the descriptors,
// which stay open across the exec.
type upgradeState struct {
	Version    int             `json:"version"`
	Args       []string        `json:"args"`       // the command line
	Config     json.RawMessage `json:"config"`     // the meaning of the command line
	Executable string          `json:"executable"` // the path of the superdaemon

	State   state            `json:"state"`
	Now     time.Duration    `json:"now"`     // the supervisor's clock
	Signals []syscall.Signal `json:"signals"` // received and not acted on yet
	Notices []notice         `json:"notices"` // likewise

	partStates
	GuardPipe int `json:"guard_pipe,omitempty"` // written by the first 1.0.0 builds: a descriptor to close
}

// partStates holds what the save methods of the parts of a superdaemon write.
type partStates struct {
	Sockets       []*socket.Socket `json:"sockets"`
	Inherited     []int            `json:"inherited"`
	Steered       []*steer.Group   `json:"steered,omitempty"` // in the order of the steered sockets
	StatusWritten bool             `json:"status_written"`
	StatusPending bool             `json:"status_pending"` // the status file could not be written
	Unsent        []string         `json:"unsent"`         // to the service manager
	PIDFile       int              `json:"pid_file"`       // descriptor, -1 for none
	Log           logState         `json:"log"`
	Receivers     []receiverState  `json:"receivers"`
	Adopted       []adoptedState   `json:"adopted"`
	Copies        copies.List      `json:"copies,omitempty"` // of workers of several processes
}

// logState is the part of the log that crosses an upgrade.
type logState struct {
	Pipe      [2]int `json:"pipe"`
	Output    [2]int `json:"output"`
	PID       int    `json:"pid"`
	Unwritten []byte `json:"unwritten"` // whole lines
	Dropped   int    `json:"dropped"`   // lines
}

// receiverState is the notify socket of a worker.
type receiverState struct {
	Worker     int    `json:"worker"` // pid
	Descriptor int    `json:"descriptor"`
	Address    string `json:"address"`
}

// adoptedState is a worker that is not a child.
type adoptedState struct {
	Worker     int `json:"worker"`     // pid
	Descriptor int `json:"descriptor"` // its pidfd
}

// descriptors returns the descriptors that must stay open across the exec.
func (s *upgradeState) descriptors() []int {
	var fds []int
	for _, sock := range s.Sockets {
		fds = append(fds, sock.FD)
	}
	fds = append(fds, spares(s.Steered, s.Sockets)...)
	for _, r := range s.Receivers {
		fds = append(fds, r.Descriptor)
	}
	for _, a := range s.Adopted {
		fds = append(fds, a.Descriptor)
	}
	if s.PIDFile >= 0 {
		fds = append(fds, s.PIDFile)
	}
	if s.GuardPipe > 0 {
		fds = append(fds, s.GuardPipe)
	}
	if s.Log.piped() {
		fds = append(fds, s.Log.Pipe[0], s.Log.Pipe[1], s.Log.Output[0], s.Log.Output[1])
	}
	return fds
}

// piped reports whether the log is piped to a command.
func (l logState) piped() bool { return l.Pipe != [2]int{} || l.Output != [2]int{} || l.PID != 0 }

// probeVariable is set in the environment of a candidate, which is checked before an upgrade.
const probeVariable = "START_SERVER_PROBE"

// beingChecked reports whether this process is the candidate of an upgrade.
func beingChecked() bool { return os.Getenv(probeVariable) != "" }

// answerPrefix begins the answer of a candidate that is compatible. Other programs do not print it.
const answerPrefix = "compatible start_server, state version "

// readUpgradeState reads the state from the descriptor in an environment variable. It removes the
// variable. It returns nil if there is no such variable.
func readUpgradeState(variable string) (*upgradeState, error) {
	value, ok := os.LookupEnv(variable)
	if !ok {
		return nil, nil
	}
	_ = os.Unsetenv(variable)
	fd, err := strconv.Atoi(value)
	if err != nil || fd <= stderr {
		return nil, fmt.Errorf("upgrade: %s=%q is not a descriptor", variable, value)
	}
	defer unix.Close(fd)
	return readStateFile(fd)
}

// readStateFile reads the state from a file.
func readStateFile(fd int) (*upgradeState, error) {
	unix.CloseOnExec(fd)
	text, err := readWhole(fd)
	if err != nil {
		return nil, fmt.Errorf("upgrade: read the state: %w", err)
	}
	s, err := parseUpgradeState(text)
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

func parseUpgradeState(text []byte) (*upgradeState, error) {
	s := &upgradeState{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	if s.Version != upgradeStateVersion {
		return nil, fmt.Errorf("the state has version %d, want %d", s.Version, upgradeStateVersion)
	}
	if err := s.State.check(s.Now); err != nil {
		return nil, err
	}
	return s, s.check()
}

// check returns an error if a superdaemon cannot continue from the state.
func (s *upgradeState) check() error {
	limit := process.DescriptorLimit()
	for _, sock := range s.Sockets {
		if sock == nil || sock.RequestedFD < -1 || sock.RequestedFD >= limit {
			return fmt.Errorf("%+v is not a socket", sock)
		}
	}
	for _, g := range s.Steered {
		if g == nil || !g.Valid() || socketOf(g, s.Sockets) == nil {
			return fmt.Errorf("%+v are not the sockets of a UDP port", g)
		}
	}
	taken := map[int]bool{}
	for _, fd := range slices.Concat(s.descriptors(), s.Inherited) {
		if fd <= stderr || fd >= limit || taken[fd] {
			return fmt.Errorf("descriptor %d is out of range or used twice", fd)
		}
		taken[fd] = true
	}
	isWorker := func(pid int) bool {
		return slices.ContainsFunc(s.State.all(), func(w *worker) bool { return w.PID == pid })
	}
	for _, r := range s.Receivers {
		if !isWorker(r.Worker) {
			return fmt.Errorf("process %d has a notify socket and is not a worker", r.Worker)
		}
	}
	for _, a := range s.Adopted {
		if !isWorker(a.Worker) {
			return fmt.Errorf("process %d was adopted and is not a worker", a.Worker)
		}
	}
	if l := s.Log; l.PID < 0 || len(l.Unwritten) > 0 && l.Unwritten[len(l.Unwritten)-1] != '\n' {
		return fmt.Errorf("invalid log: process %d, %q", l.PID, l.Unwritten)
	}
	if !filepath.IsAbs(s.Executable) {
		return fmt.Errorf("the path of the executable is %q", s.Executable)
	}
	return nil
}

// all returns the workers, in no particular order.
func (s *state) all() []*worker {
	all := slices.Clone(s.Old)
	for _, w := range []*worker{s.Current, s.Candidate} {
		if w != nil {
			all = append(all, w)
		}
	}
	return all
}

// check returns an error if no supervisor can be in this state.
func (s *state) check(now time.Duration) error {
	seen := map[int]bool{}
	for _, w := range s.all() {
		if w == nil || w.PID <= 1 || seen[w.PID] || w.Dead && w != s.Candidate {
			return fmt.Errorf("%+v is not a worker", w)
		}
		if w.Generation < 1 || w.Generation > s.Generation || w.KillAt < 0 {
			return fmt.Errorf("%+v is not a worker of generation 1 to %d", w, s.Generation)
		}
		seen[w.PID] = true
	}
	settled := s.Current != nil && s.Candidate == nil
	switch {
	case s.Phase == starting, s.Phase == running && settled, s.Phase == delaying && settled:
	default:
		return fmt.Errorf("phase %d with current worker %+v and candidate %+v", s.Phase, s.Current, s.Candidate)
	}
	if s.LastStartAt < 0 || s.LastStartAt > now || s.StartedAt < 0 || s.StartedAt > now || s.Deadline < 0 || s.StopAt < 0 {
		return fmt.Errorf("the clock is at %s, before a worker was started at %s or %s", now, s.LastStartAt, s.StartedAt)
	}
	return nil
}

// write replaces the content of a file with the state.
func (s *upgradeState) write(descriptor int) error {
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

// AnswerUpgradeCheck has to be called by the --version of a program that calls Run. If this process
// is the candidate of an upgrade, it checks that this version can continue from the state of the
// running superdaemon and gives the command line the same meaning, and writes the answer to w.
// Otherwise it does nothing. config has to return the Config for a command line.
func AnswerUpgradeCheck(w io.Writer, config func(argv []string) (Config, error)) error {
	s, err := readUpgradeState(probeVariable)
	if s == nil || err != nil {
		return err
	}
	c, err := config(s.Args)
	if err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	if !s.compatible(c) {
		return fmt.Errorf("upgrade: the options mean something else now: %q", s.Args)
	}
	_, err = fmt.Fprintf(w, "%s%d\n", answerPrefix, upgradeStateVersion)
	return err
}

// compatible reports whether c equals the Config of the previous superdaemon, and the state has the
// descriptors that c needs. Fields that the previous superdaemon did not have are ignored.
func (s *upgradeState) compatible(c Config) bool {
	known := Config{}
	_ = json.Unmarshal(c.encode(), &known)
	decoder := json.NewDecoder(bytes.NewReader(s.Config))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&known); err != nil {
		return false
	}
	_, piped := logfile.Command(c.LogFile)
	return bytes.Equal(known.encode(), c.encode()) && piped == s.Log.piped() && (c.PIDFile != "") == (s.PIDFile >= 0)
}

// encode writes a Config as JSON.
func (c Config) encode() json.RawMessage {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // cannot happen: it consists of strings and numbers
	}
	return text
}
