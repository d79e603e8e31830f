package starter

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/signals"
)

// probeTimeout is how long a new executable may take to say that it can take over.
const probeTimeout = 10 * time.Second

// probe is the new executable while it is tried out.
type probe struct {
	pid      int // 0 while nothing is tried out
	answer   int // the pipe that it answers on
	deadline time.Time
	passed   bool // it can take over
}

// upgrade answers USR2: it tries the executable that is on disk now. When that has answered
// that it can take over, chores makes it replace this process.
func (d *superdaemon) upgrade() {
	if d.probe.pid != 0 || d.probe.passed {
		return
	}
	d.log(msgUpgrading(d.executable))
	if err := d.startProbe(); err != nil {
		d.log(msgNotUpgraded(err))
	}
}

func (d *superdaemon) startProbe() error {
	fd, err := d.succession().write()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	read, write, err := process.Pipe()
	if err != nil {
		return err
	}
	defer unix.Close(write)
	_ = unix.SetNonblock(read, true)
	const state = 3
	pid, err := process.StartAs(d.executable, process.Spec{
		// What any program understands: there may be another one now.
		Args:  []string{os.Args[0], "--version"},
		Env:   append(os.Environ(), probeVariable+"="+strconv.Itoa(state)),
		Files: []uintptr{process.Hole, uintptr(write), stderr, uintptr(fd)},
	})
	if err != nil {
		unix.Close(read)
		return err
	}
	d.probe = probe{pid: pid, answer: read, deadline: time.Now().Add(probeTimeout)}
	return nil
}

// probeDied takes note of the death of a child, if it is the one that is tried
// out.
func (d *superdaemon) probeDied(pid, status int) bool {
	if pid != d.probe.pid || pid == 0 {
		return false
	}
	var buf [4096]byte
	n, _ := unix.Read(d.probe.answer, buf[:])
	unix.Close(d.probe.answer)
	answer := string(buf[:max(n, 0)])
	d.probe = probe{passed: status == 0 && strings.Contains(answer, answerPrefix)}
	if !d.probe.passed {
		d.log(msgNotUpgraded(fmt.Errorf("%s does not answer that it can take over: exit status %d, %q", d.executable, status, answer)))
	}
	return true
}

// upgradeChores ends what takes too long and replaces this process when
// that can be done. It says when to call again.
func (d *superdaemon) upgradeChores() time.Duration {
	switch {
	case d.probe.passed:
		d.probe.passed = false
		if d.loop.Phase < stopping {
			d.log(msgNotUpgraded(d.replace()))
		}
	case d.probe.pid != 0:
		if wait := time.Until(d.probe.deadline); wait > 0 {
			return wait
		}
		d.probe.deadline = time.Now().Add(probeTimeout)
		_ = unix.Kill(d.probe.pid, unix.SIGKILL)
	}
	return 0
}

// succession writes down how things are. The notify sockets are not among it yet.
func (d *superdaemon) succession() *succession {
	s := &succession{
		Version:       successionVersion,
		Args:          os.Args[1:],
		Config:        d.config,
		Executable:    d.executable,
		State:         d.loop.state,
		Now:           time.Since(d.loop.epoch),
		Sockets:       d.Sockets,
		Inherited:     d.Inherited,
		StatusWritten: d.StatusWritten,
		PIDFile:       -1,
		Log:           d.out.state(),
	}
	if d.pidFile != nil {
		s.PIDFile = d.pidFile.Descriptor()
	}
	return s
}

// replace makes the executable on disk this process. It returns only if
// that fails, with everything as it was.
func (d *superdaemon) replace() error {
	s := d.succession()
	s.Receivers, s.Notices = d.silence()
	err := d.execute(s)
	d.listenAgain(s.Receivers)
	d.loop.turn(func() { d.loop.resume(s.Signals, s.Notices) })
	return err
}

// execute hands the succession over. While it lasts no signal ends this process: what
// was received before is in the succession, what comes later is lost. That is why it
// is short.
func (d *superdaemon) execute(s *succession) error {
	fd, err := s.write()
	if err != nil {
		return err
	}
	defer func() { unix.Close(fd) }()
	restore := signals.IgnoreAll()
	defer restore()
	if s.Signals = d.loop.signals.Drain(); len(s.Signals) > 0 {
		unix.Close(fd)
		if fd, err = s.write(); err != nil {
			return err
		}
	}
	kept := append(s.descriptors(), fd)
	keepOpen(kept, true)
	defer keepOpen(kept, false)
	env := append(os.Environ(), signals.Variable+"="+strconv.Itoa(fd))
	return fmt.Errorf("execute %s: %w", d.executable, syscall.Exec(d.executable, os.Args, env))
}

// silence stops listening to the workers, whose sockets stay open. It returns what
// was heard and not acted on yet.
func (d *superdaemon) silence() (receivers []receiverState, notices []notice) {
	for pid, r := range d.receivers {
		address := r.Address()
		if fd, err := r.Release(); err == nil {
			receivers = append(receivers, receiverState{Worker: pid, Descriptor: fd, Address: address})
		}
	}
	ended := make(chan struct{})
	go func() { d.receiving.Wait(); close(ended) }()
	for {
		select {
		case n := <-d.notices:
			notices = append(notices, n)
		case <-ended:
			return receivers, notices
		}
	}
}

// listenAgain is the opposite of silence.
func (d *superdaemon) listenAgain(receivers []receiverState) {
	for _, r := range receivers {
		d.receive(r.Worker, sdnotify.Adopt(r.Descriptor, r.Address))
	}
}

// keepOpen decides whether descriptors of ours stay open across an exec.
func keepOpen(fds []int, open bool) {
	flag := unix.FD_CLOEXEC
	if open {
		flag = 0
	}
	for _, fd := range fds {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag)
	}
}

// takeOver is open for a superdaemon that replaces another one: everything is there
// already.
func (d *superdaemon) takeOver() error {
	s, err := readSuccession(signals.Variable)
	if err != nil {
		return err
	}
	keepOpen(s.descriptors(), false)
	d.executable, d.Sockets, d.Inherited, d.StatusWritten = s.Executable, s.Sockets, s.Inherited, s.StatusWritten
	d.out = resumeLog(d.config.LogFile, words(d.environment.base), s.Log)
	if s.PIDFile >= 0 {
		d.pidFile = pidfile.Adopt(d.config.PIDFile, s.PIDFile)
	}
	supervisor := newSupervisor(d.config.rules(), d)
	supervisor.state = s.State
	d.loop = newLoop(supervisor, d, signals.Catch(), d.notices)
	d.loop.epoch = time.Now().Add(-s.Now)
	d.loop.first = func() { d.loop.resume(s.Signals, s.Notices) }
	d.listenAgain(s.Receivers)
	d.log(msgUpgraded(os.Getpid(), s.State.Generation))
	return nil
}
