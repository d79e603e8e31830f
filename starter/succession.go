package starter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/socket"
)

// successionVersion changes when a superdaemon that reads the former version
// would do something wrong.
const successionVersion = 1

// succession is what a superdaemon leaves to the one that replaces it: the state of
// its supervisor, and the descriptors, which stay open across the exec.
type succession struct {
	Version    int
	Args       []string // the command line
	Config     Config   // what the predecessor understands it to mean
	Executable string   // where the superdaemon is on disk

	State   state
	Now     time.Duration    // the supervisor's clock
	Signals []syscall.Signal // received, and not acted on yet
	Notices []notice         // likewise

	Sockets       []*socket.Socket
	Inherited     []int
	StatusWritten bool
	PIDFile       int // descriptor, -1 for none
	Log           logState
	Receivers     []receiverState
}

// logState is what goes on of the log.
type logState struct {
	Pipe      [2]int
	Output    [2]int
	PID       int
	Unwritten []byte
}

// receiverState is the notify socket of a worker.
type receiverState struct {
	Worker     int // pid
	Descriptor int
	Address    string
}

// descriptors are all that must stay open across the exec.
func (s *succession) descriptors() []int {
	var fds []int
	for _, sock := range s.Sockets {
		fds = append(fds, sock.FD)
	}
	for _, r := range s.Receivers {
		fds = append(fds, r.Descriptor)
	}
	if s.PIDFile >= 0 {
		fds = append(fds, s.PIDFile)
	}
	if s.Log.Pipe[1] > 0 {
		fds = append(fds, s.Log.Pipe[0], s.Log.Pipe[1], s.Log.Output[0], s.Log.Output[1])
	}
	return fds
}

// probeVariable is set in the environment of the start_server that is tried out before
// it may replace another one.
const probeVariable = "START_SERVER_PROBE"

// answerPrefix begins the answer of a start_server that can take over. Programs of
// other kinds that happen to be at that place do not say this.
const answerPrefix = "start_server can take over, state version "

// replacing tells whether this process replaces a superdaemon.
func replacing() bool { return os.Getenv(signals.Variable) != "" }

// readSuccession reads the state that a variable names by its descriptor, once.
func readSuccession(variable string) (*succession, error) {
	value := os.Getenv(variable)
	_ = os.Unsetenv(variable)
	fd, err := strconv.Atoi(value)
	if err != nil {
		return nil, fmt.Errorf("take over from a start_server: %s=%q is no descriptor", variable, value)
	}
	file := os.NewFile(uintptr(fd), variable)
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<40))
	if err != nil {
		return nil, fmt.Errorf("take over from a start_server: read its state: %w", err)
	}
	return parseSuccession(text)
}

func parseSuccession(text []byte) (*succession, error) {
	s := &succession{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("take over from a start_server: read its state: %w", err)
	}
	if s.Version != successionVersion {
		return nil, fmt.Errorf("take over from a start_server: its state is of version %d, this one knows %d", s.Version, successionVersion)
	}
	return s, s.check()
}

// check finds what could not be carried on.
func (s *succession) check() error {
	if s.State.Phase < starting || s.State.Phase > delaying {
		return fmt.Errorf("take over from a start_server: it is in phase %d", s.State.Phase)
	}
	for _, fd := range s.descriptors() {
		if fd <= stderr {
			return fmt.Errorf("take over from a start_server: descriptor %d is none of its own", fd)
		}
	}
	for _, w := range s.State.Old {
		if w == nil || w.PID <= 0 {
			return errors.New("take over from a start_server: an old worker is not described")
		}
	}
	for _, sock := range s.Sockets {
		if sock == nil {
			return errors.New("take over from a start_server: a socket is not described")
		}
	}
	return nil
}

// write puts the state into a file that has no name and stays open across an exec.
func (s *succession) write() (descriptor int, err error) {
	text, err := json.Marshal(s)
	if err != nil {
		return -1, err
	}
	fd, err := namelessFile()
	if err != nil {
		return -1, fmt.Errorf("write down the state: %w", err)
	}
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		if err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("write down the state: %w", err)
		}
		text = text[n:]
	}
	return fd, nil
}

// Answer is for the start_server command: where this process is tried out by a
// superdaemon that wants to be replaced, it checks that it could take over and
// understands the command line in the same way, and says so. config reads a command line.
func Answer(w io.Writer, config func(argv []string) (Config, error)) error {
	if os.Getenv(probeVariable) == "" {
		return nil
	}
	s, err := readSuccession(probeVariable)
	if err != nil {
		return err
	}
	c, err := config(s.Args)
	if err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	if !sameConfig(c, s.Config) {
		return fmt.Errorf("take over from a start_server: the options mean something else now: %q", s.Args)
	}
	_, err = fmt.Fprintf(w, "%s%d\n", answerPrefix, successionVersion)
	return err
}

// sameConfig compares what the two would write down.
func sameConfig(a, b Config) bool {
	textA, errA := json.Marshal(a)
	textB, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(textA, textB)
}
