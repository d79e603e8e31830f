// Package upgrade replaces the running superdaemon with the executable on disk, for USR2.
//
// First the executable on disk is checked: it is started with --version and the state, and has to
// answer that it can continue from there. Then this process writes its state, ignores signals, and
// becomes that executable by execve(2). Pid, children, sockets, locks and pipes stay the same, and
// deaths and READY=1 wait for the upgraded superdaemon.
//
// A signal that arrives during the exec cannot wait: the Go runtime of the upgraded superdaemon
// unblocks HUP, INT, TERM and QUIT before it has handlers for them. So they are ignored, from just
// before the exec until package signals catches them: a signal in this window is lost, but not
// deadly. --restart and --stop detect that by the pid file, and send their signal again. Measured
// in 300 upgrades on two busy cores (load 6), the window is at least 1.1 ms, 2.0 ms in the median,
// and 4.8 ms at the 90th percentile; start_server takes 0.07 ms of the median, the kernel and the
// runtime the rest. In the last part of the window, from the start of the runtime to the call of
// signal.Notify, TERM, QUIT and ABRT (not HUP and INT) end the process, because the runtime does
// not let these be ignored from outside: at least 0.2 ms, 0.4 ms in the median, 1.2 ms at the 90th
// percentile. The workers then keep serving: starting start_server again takes them over, and --stop
// stops them. To be sure, wait for the log line about the upgrade before sending a signal.
package upgrade

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/background"
	"github.com/start-server/start-server/internal/deadline"
	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/waitstatus"
)

// probeTimeout limits the time of a candidate to answer.
const probeTimeout = 10 * time.Second

// candidateState is the descriptor of the state in a candidate.
const candidateState = 3

// Upgrader handles USR2.
type Upgrader struct {
	Executable string             // the file that replaces this process
	reader     *background.Runner // of the file's description; nil before the first upgrade
	probe      *probe             // nil unless a candidate is being checked
	save       func() *State      // returns the present state
	log        func(line string)
}

// New returns an Upgrader for an executable. save returns the present state, and log is called with
// log lines.
func New(executable string, save func() *State, log func(line string)) *Upgrader {
	return &Upgrader{Executable: executable, save: save, log: log}
}

// probe is a candidate that is being checked.
type probe struct {
	file     os.FileInfo // its executable
	pid      int         // 0 when it has ended
	answer   int         // the pipe for its answer
	output   string      // read from that pipe
	state    int         // the file with the state
	deadline time.Time
	late     bool
	err      error // why it is not compatible
}

// Start begins to check the executable that is on disk now. Finish ends the check.
func (u *Upgrader) Start() {
	if u.probe != nil { // Finish notices if the file changes meanwhile
		return
	}
	u.log(lines.Upgrading(u.Executable))
	u.check()
}

func (u *Upgrader) check() {
	if err := u.startProbe(); err != nil {
		u.log(lines.NotUpgraded(err))
	}
}

func (u *Upgrader) startProbe() error {
	file, err := u.stat()
	if err != nil {
		return err
	}
	fd, err := anonymousFile()
	if err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	p := &probe{file: file, state: fd, answer: -1, deadline: time.Now().Add(probeTimeout)}
	if err := u.startCandidate(p); err != nil {
		p.close()
		return err
	}
	u.probe = p
	return nil
}

func (u *Upgrader) startCandidate(p *probe) error {
	if err := u.save().write(p.state); err != nil {
		return err
	}
	var write int
	var err error
	if p.answer, write, err = process.Pipe(); err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer unix.Close(write)
	_ = unix.SetNonblock(p.answer, true)
	p.pid, err = process.StartAs(u.Executable, process.Spec{
		// --version is harmless if the file is another program now.
		Args:  []string{os.Args[0], "--version"},
		Env:   append(os.Environ(), probeVariable+"="+strconv.Itoa(candidateState)),
		Files: []uintptr{process.Closed, uintptr(write), process.Stderr, candidateState: uintptr(p.state)},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", u.Executable, err)
	}
	return nil
}

// listen reads the output of the candidate until now.
func (p *probe) listen() {
	var buf [200]byte
	if n, err := unix.Read(p.answer, buf[:]); err == nil && len(p.output) < len(buf) {
		p.output += string(buf[:n])
	}
}

// close closes the files of the candidate.
func (p *probe) close() {
	unix.Close(p.answer)
	unix.Close(p.state)
}

// OnExit handles the death of a child if it is the candidate, and reports whether it is.
func (u *Upgrader) OnExit(pid, status int) bool {
	p := u.probe
	if p == nil || pid != p.pid {
		return false
	}
	p.pid = 0
	p.listen()
	switch {
	case p.late:
		p.err = fmt.Errorf("%s does not answer within %s secs", u.Executable, lines.Seconds(probeTimeout))
	case status != 0 || !strings.Contains(p.output, answerPrefix):
		p.err = fmt.Errorf("%s is not a compatible start_server (%s, output %q)", u.Executable, waitstatus.Describe(status), p.output)
	}
	return true
}

// RunPending ends a candidate that takes too long to answer. It returns the time until it has to be
// called again.
func (u *Upgrader) RunPending() time.Duration {
	p := u.probe
	if p == nil || p.pid == 0 {
		return deadline.Never
	}
	if wait := time.Until(p.deadline); wait > 0 {
		return wait
	}
	_ = unix.Kill(p.pid, unix.SIGKILL)
	p.late, p.deadline = true, time.Now().Add(probeTimeout)
	return probeTimeout
}

// Finish acts on the answer of the candidate, and reports whether there is one. become is called if
// it is compatible, with a file for the state. It returns only if it fails.
func (u *Upgrader) Finish(become func(file int) error) bool {
	p := u.probe
	if p == nil || p.pid != 0 {
		return false
	}
	u.probe = nil
	defer p.close()
	switch file, err := u.stat(); {
	case errors.Is(err, background.ErrNotAnswering):
		u.log(lines.NotUpgraded(err))
	case err == nil && !sameFile(file, p.file): // it has changed since: check the new one
		u.check()
	case p.err != nil:
		u.log(lines.NotUpgraded(p.err))
	default:
		u.log(lines.NotUpgraded(become(p.state)))
	}
	return true
}

// stat returns a description of the executable, or an error if its file system hangs.
func (u *Upgrader) stat() (file os.FileInfo, err error) {
	if u.reader == nil {
		u.reader = background.New(func() {})
	}
	if !u.reader.Run(func() { file, err = os.Stat(u.Executable) }, background.Patience) {
		return nil, fmt.Errorf("%s: %w", u.Executable, background.ErrNotAnswering)
	}
	return file, err
}

// Cancel ends an upgrade under way.
func (u *Upgrader) Cancel() {
	if u.probe == nil {
		return
	}
	if u.probe.pid != 0 {
		_ = unix.Kill(u.probe.pid, unix.SIGKILL)
	}
	u.probe.close()
	u.probe = nil
}

// sameFile reports whether two descriptions are of the same, unchanged file.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.Mode() == b.Mode() && a.ModTime().Equal(b.ModTime())
}
