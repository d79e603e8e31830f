package starter

// How USR2 upgrades the superdaemon. First the executable on disk is checked: it is started with
// --version and the state, and has to answer that it can continue from there. Then this process
// writes its state, ignores signals, and becomes that executable by execve(2): pid, children,
// sockets, locks and pipes stay what they are, and deaths and READY=1 wait for the next superdaemon.
//
// A signal that comes during the exec cannot wait: the Go runtime of the next superdaemon unblocks
// HUP, INT, TERM and QUIT before it has handlers for them. So they are ignored, from just before the
// exec until package signals catches them, and one that comes then is lost, not deadly. --restart and
// --stop see by the pid file that this may have happened, and send theirs again. Measured in
// 300 upgrades on two busy cores (load 6): that window is 1.1 ms at the least, 2.0 ms in the median,
// 4.8 ms in 9 of 10; 0.07 ms of the median are start_server's, the rest the kernel's and the
// runtime's. In the last part of it, 0.2 ms at the least, 0.4 ms in the median, 1.2 ms in 9 of 10,
// from when the runtime has started until signal.Notify is called, TERM, QUIT and ABRT (not HUP and
// INT) end the process: the runtime does not let these be ignored from outside. Then the guard stops
// the workers (guard.go). To be sure, wait for the line that start_server was upgraded.

import (
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/statusfile"
)

// pollAnswer is how often the answer of a candidate is looked for.
const pollAnswer = 2 * time.Millisecond

// probeTimeout is the time that a new executable has to answer.
const probeTimeout = 10 * time.Second

// upgrader answers USR2.
type upgrader struct {
	executable string // the file that replaces this process
	files      process.FileCheck
	probe      *probe               // nil unless a candidate is being checked
	save       func() *upgradeState // the state at this moment
	exec       func(*probe) error   // becomes the executable; returns only if that fails
	log        func(line string)
}

// probe is a candidate that is being checked.
type probe struct {
	file     os.FileInfo // what is checked
	pid      int         // 0 when it has ended
	answer   int         // the pipe that it answers on
	said     string      // on that pipe
	state    int         // the file with the state, which the guard reads again
	guard    int         // the pipe to the guard
	deadline time.Time
	late     bool
	err      error // why it is not compatible
}

// start checks the executable that is on disk now. When it has answered that it is compatible,
// runPending makes it replace this process.
func (u *upgrader) start() {
	if u.probe != nil { // runPending sees if the file changes meanwhile
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
	p := &probe{file: file, state: fd, answer: -1, guard: -1, deadline: time.Now().Add(probeTimeout)}
	if err := u.startCandidate(p); err != nil {
		p.close()
		return err
	}
	u.probe = p
	return nil
}

func (u *upgrader) startCandidate(p *probe) error {
	state := u.save()
	state.Guarded = goruntime.GOOS == "linux"
	if err := state.write(p.state); err != nil {
		return err
	}
	var write, guard int
	var err error
	if p.answer, write, err = process.Pipe(); err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer unix.Close(write)
	_ = unix.SetNonblock(p.answer, true)
	if guard, p.guard, err = process.Pipe(); err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer unix.Close(guard)
	files := []uintptr{process.Closed, uintptr(write), stderr, guardState: uintptr(p.state), guardPipe: uintptr(guard)}
	if state.PIDFile >= 0 {
		files = append(files, uintptr(state.PIDFile)) // guardPIDFile
	}
	p.pid, err = process.StartAs(u.executable, process.Spec{
		// Any program understands --version: the file may be another program now.
		Args:  []string{os.Args[0], "--version"},
		Env:   append(os.Environ(), probeVariable+"="+strconv.Itoa(guardState)),
		Files: files,
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", u.executable, err)
	}
	return nil
}

// listen reads what the candidate has said until now.
func (p *probe) listen() {
	var buf [200]byte
	if n, err := unix.Read(p.answer, buf[:]); err == nil && len(p.said) < len(buf) {
		p.said += string(buf[:n])
	}
}

// guards reports whether the candidate is compatible and stays as the guard.
func (p *probe) guards() bool {
	p.listen()
	return strings.Contains(p.said, answerPrefix) && strings.HasSuffix(p.said, guardAnswer) && !p.late
}

// tellGuard tells the guard, if there is one.
func (p *probe) tellGuard(b byte) {
	_, _ = unix.Write(p.guard, []byte{b})
}

// close ends what belongs to the candidate. One that waits as the guard ends as well.
func (p *probe) close() {
	for _, fd := range []int{p.answer, p.state, p.guard} {
		unix.Close(fd)
	}
}

// onExit takes the death of a child, if it is the candidate.
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
	case status != 0 || !strings.Contains(p.said, answerPrefix):
		p.err = fmt.Errorf("%s is not a compatible start_server (%s, output %q)", u.executable, describeStatus(status), p.said)
	}
	return true
}

// runPending ends a candidate that takes too long to answer, and replaces this process by one that
// has answered.
func (u *upgrader) runPending() time.Duration {
	p := u.probe
	switch {
	case p == nil:
		return 0
	case p.pid != 0 && !p.guards():
		if wait := time.Until(p.deadline); wait > 0 {
			return min(wait, pollAnswer)
		}
		_ = unix.Kill(p.pid, unix.SIGKILL)
		p.late, p.deadline = true, time.Now().Add(probeTimeout)
		return probeTimeout
	}
	u.probe = nil
	defer p.close()
	switch file, err := u.stat(); {
	case errors.Is(err, process.ErrNotAnswering):
		u.log(msgNotUpgraded(err))
	case err == nil && !sameFile(file, p.file): // it changed after the USR2, or a second USR2 means a newer one
		u.check()
	case p.err != nil:
		u.log(msgNotUpgraded(p.err))
	default:
		u.log(msgNotUpgraded(u.exec(p)))
	}
	return u.runPending()
}

// stat describes the executable, unless its file system hangs.
func (u *upgrader) stat() (os.FileInfo, error) {
	if err := u.files.Program(process.Spec{Args: []string{u.executable}}); err != nil {
		return nil, err
	}
	return os.Stat(u.executable)
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

// sameFile reports whether the file that was checked is the one that is there now.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.Mode() == b.Mode() && a.ModTime().Equal(b.ModTime())
}

// exec replaces this process by the executable on disk. It returns only if that fails, with
// everything as it was.
func (d *superdaemon) exec(p *probe) error {
	d.log.drain(patience)
	u := d.saveState()
	u.GuardPipe = p.guard
	u.Notices = d.workers.pause()
	err := d.execute(u, p)
	p.tellGuard(guardEnd)
	d.workers.unpause()
	d.loop.step(func() { d.loop.resume(u.Signals, u.Notices) })
	return err
}

// execute passes the state on. While it runs no signal ends this process: what was received before
// is in the state, what comes later is lost. So everything that can be done before is done before.
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
	p.tellGuard(guardBegin)
	return fmt.Errorf("execute %s: %w", u.Executable, syscall.Exec(u.Executable, os.Args, env))
}

// dismissGuard tells the guard that signals are received again. 0 stands for no guard.
func (d *superdaemon) dismissGuard(pipe int) {
	if pipe > 0 {
		(&probe{guard: pipe}).tellGuard(guardEnd)
		unix.Close(pipe)
	}
}

// markUpgrade tells --restart and --stop whether a signal would be received. What cannot be marked is
// no reason to stay.
func (d *superdaemon) markUpgrade(mark func(*pidfile.File) error) {
	if d.pidFile == nil {
		return
	}
	if err := mark(d.pidFile); err != nil {
		d.logLine(err.Error())
	}
}

// keepOpen decides whether descriptors stay open across an exec.
func keepOpen(fds []int, open bool) {
	flag := unix.FD_CLOEXEC
	if open {
		flag = 0
	}
	for _, fd := range fds {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag)
	}
}

// saveState returns everything that crosses an upgrade.
func (d *superdaemon) saveState() *upgradeState {
	u := &upgradeState{
		Version:    upgradeStateVersion,
		Args:       os.Args[1:],
		Config:     d.config.encode(),
		Executable: d.upgrade.executable,
		State:      d.loop.state,
		Now:        time.Since(d.loop.epoch),
		PIDFile:    -1,
	}
	if d.pidFile != nil {
		u.PIDFile = d.pidFile.Descriptor()
	}
	d.sockets.save(u)
	d.workers.save(u)
	d.adopted.save(u)
	d.status.save(u)
	d.notifier.save(u)
	d.log.save(u)
	return u
}

// resume continues from the state of the previous superdaemon: everything is open already.
func (d *superdaemon) resume(u *upgradeState) {
	keepOpen(u.descriptors(), false)
	d.log = resumeLog(d.config.LogFile, encode(d.environment.base, nil), u.Log, d.loop.wakeUp)
	d.log.prefix = d.config.LogPrefix
	if u.PIDFile >= 0 {
		d.pidFile = pidfile.Adopt(d.config.PIDFile, u.PIDFile)
	}
	d.markUpgrade((*pidfile.File).EndUpgrade)
	d.dismissGuard(u.GuardPipe)
	d.loop.state = u.State
	d.loop.epoch = time.Now().Add(-u.Now)
	d.loop.first = func() { d.loop.resume(u.Signals, u.Notices) }
	d.upgrade.executable = u.Executable
	d.sockets.resume(u)
	d.workers.resume(u)
	d.adopted.resume(u)
	d.status.resume(u, statusfile.Encode(d.loop.startedWorkers()))
	d.notifier.resume(u)
	d.emit(Upgraded{})
	d.logLine(msgUpgraded(os.Getpid(), u.State.Generation))
}
