package starter

// How USR2 upgrades the superdaemon: first the executable on disk is checked. It is started with
// --version and the state, and has to answer that it can continue from there. Then this process
// writes its state, ignores signals, and becomes that executable by execve(2). Pid, children,
// sockets, locks and pipes stay the same, and deaths and READY=1 wait for the upgraded superdaemon.
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

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/background"
	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/status"
)

// probeTimeout limits the time of a candidate to answer.
const probeTimeout = 10 * time.Second

// candidateState is the descriptor of the state in a candidate.
const candidateState = 3

// upgrader handles USR2.
type upgrader struct {
	executable string               // the file that replaces this process
	reader     *background.Runner   // of the file's description; nil before the first upgrade
	probe      *probe               // nil unless a candidate is being checked
	save       func() *upgradeState // returns the present state
	exec       func(*probe) error   // becomes the executable; returns only if that fails
	log        func(line string)
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

// start begins to check the executable that is on disk now. Once it has answered that it is
// compatible, runPending replaces this process with it.
func (u *upgrader) start() {
	if u.probe != nil { // runPending notices if the file changes meanwhile
		return
	}
	u.log(msgUpgrading(u.executable))
	u.check()
}

func (u *upgrader) check() {
	if err := u.startProbe(); err != nil {
		u.log(msgNotUpgraded(err))
	}
}

func (u *upgrader) startProbe() error {
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

func (u *upgrader) startCandidate(p *probe) error {
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
	p.pid, err = process.StartAs(u.executable, process.Spec{
		// --version is harmless if the file is another program now.
		Args:  []string{os.Args[0], "--version"},
		Env:   append(os.Environ(), probeVariable+"="+strconv.Itoa(candidateState)),
		Files: []uintptr{process.Closed, uintptr(write), stderr, candidateState: uintptr(p.state)},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", u.executable, err)
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

// onExit handles the death of a child if it is the candidate, and reports whether it is.
func (u *upgrader) onExit(pid, status int) bool {
	p := u.probe
	if p == nil || pid != p.pid {
		return false
	}
	p.pid = 0
	p.listen()
	switch {
	case p.late:
		p.err = fmt.Errorf("%s does not answer within %s secs", u.executable, seconds(probeTimeout))
	case status != 0 || !strings.Contains(p.output, answerPrefix):
		p.err = fmt.Errorf("%s is not a compatible start_server (%s, output %q)", u.executable, describeStatus(status), p.output)
	}
	return true
}

// runPending replaces this process with a candidate that has answered, and ends one that takes too
// long to answer.
func (u *upgrader) runPending() time.Duration {
	p := u.probe
	switch {
	case p == nil:
		return 0
	case p.pid != 0:
		if wait := time.Until(p.deadline); wait > 0 {
			return wait
		}
		_ = unix.Kill(p.pid, unix.SIGKILL)
		p.late, p.deadline = true, time.Now().Add(probeTimeout)
		return probeTimeout
	}
	u.probe = nil
	defer p.close()
	switch file, err := u.stat(); {
	case errors.Is(err, errNotAnswering):
		u.log(msgNotUpgraded(err))
	case err == nil && !sameFile(file, p.file): // it has changed since: check the new one
		u.check()
	case p.err != nil:
		u.log(msgNotUpgraded(p.err))
	default:
		u.log(msgNotUpgraded(u.exec(p)))
	}
	return u.runPending()
}

// stat returns a description of the executable, or an error if its file system hangs.
func (u *upgrader) stat() (file os.FileInfo, err error) {
	if u.reader == nil {
		u.reader = background.New(func() {})
	}
	if !u.reader.Run(func() { file, err = os.Stat(u.executable) }, patience) {
		return nil, fmt.Errorf("%s: %w", u.executable, errNotAnswering)
	}
	return file, err
}

// cancel ends an upgrade under way.
func (u *upgrader) cancel() {
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

// exec replaces this process with the executable on disk. It returns only if that fails, and then
// everything is as before.
func (d *superdaemon) exec(p *probe) error {
	d.log.drain(patience)
	u := d.saveState()
	u.Notices = d.workers.pause()
	err := d.execute(u, p)
	d.workers.unpause()
	d.watchCandidate()
	d.loop.step(func() { d.loop.resume(u.Signals, u.Notices) })
	return err
}

// execute passes the state on and executes the new executable. From IgnoreAll on signals are lost;
// those received earlier are in the state. So it does everything else first.
func (d *superdaemon) execute(u *upgradeState, p *probe) error {
	if err := u.write(p.state); err != nil {
		return err
	}
	kept := append(u.descriptors(), p.state)
	keepOpen(kept, true)
	defer keepOpen(kept, false)
	env := append(os.Environ(), signals.Variable+"="+strconv.Itoa(p.state))

	d.markUpgrade((*pidfile.File).BeginUpgrade)
	defer d.markUpgrade((*pidfile.File).EndUpgrade)
	signals.AwaitDelivery()
	restore := signals.IgnoreAll()
	defer restore()
	if u.Signals = d.loop.received(); len(u.Signals) > 0 {
		if err := u.write(p.state); err != nil {
			return err
		}
	}
	return fmt.Errorf("execute %s: %w", u.Executable, syscall.Exec(u.Executable, os.Args, env))
}

// markUpgrade marks the pid file, so that --restart and --stop know whether signals are received.
// An error is logged and does not stop the upgrade.
func (d *superdaemon) markUpgrade(mark func(*pidfile.File) error) {
	if d.pidFile == nil {
		return
	}
	if err := mark(d.pidFile); err != nil {
		d.logLine(err.Error())
	}
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

// watchCandidate continues to look whether the candidate waits for connections.
func (d *superdaemon) watchCandidate() {
	if c := d.loop.Candidate; c != nil && !c.Dead && c.Unseen == "" {
		d.workers.watch(c.PID)
	}
}

// saveState returns the state that crosses an upgrade.
func (d *superdaemon) saveState() *upgradeState {
	u := &upgradeState{
		Version:    upgradeStateVersion,
		Args:       os.Args[1:],
		Config:     d.config.encode(),
		Executable: d.upgrade.executable,
		State:      d.loop.state,
		Now:        time.Since(d.loop.epoch),
		partStates: partStates{PIDFile: -1},
	}
	if d.pidFile != nil {
		u.PIDFile = d.pidFile.Descriptor()
	}
	d.sockets.save(u)
	d.workers.save(u)
	u.StatusWritten, u.StatusPending = d.status.plain.State()
	d.notifier.save(u)
	d.log.save(u)
	return u
}

// resume continues from the state of the previous superdaemon, whose files and sockets are open.
func (d *superdaemon) resume(u *upgradeState) {
	keepOpen(u.descriptors(), false)
	d.log = resumeLog(d.config.LogFile, d.workers.environment.forLogCommand(), u.Log, d.loop.wakeUp)
	d.log.prefix = d.config.LogPrefix
	if u.PIDFile >= 0 {
		d.pidFile = pidfile.Adopt(d.config.PIDFile, u.PIDFile)
	}
	d.loop.state = u.State
	d.workers.resume(u)
	d.stepDone() // before the upgrade ends: --restart and --show read the status then
	d.markUpgrade((*pidfile.File).EndUpgrade)
	if u.GuardPipe > 0 {
		unix.Close(u.GuardPipe)
	}
	d.loop.epoch = time.Now().Add(-u.Now)
	d.loop.first = func() { d.loop.resume(u.Signals, u.Notices) }
	d.upgrade.executable = u.Executable
	d.sockets.resume(u)
	d.status.plain.Resume(u.StatusWritten, u.StatusPending, status.Encode(d.loop.startedWorkers()))
	d.notifier.resume(u)
	d.watchCandidate()
	d.emit(Upgraded{})
	generation := u.State.Generation
	if serving := d.loop.serving(); serving != nil {
		generation = serving.Generation
	}
	d.logLine(msgUpgraded(os.Getpid(), generation))
}
