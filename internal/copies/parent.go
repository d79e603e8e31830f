package copies

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/accepting"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/status"
	"github.com/start-server/start-server/internal/waitstatus"
)

// pause is the shortest time between two starts of a copy. A copy that was killed is replaced after
// it, when it is known whether the superdaemon was killed as well.
const pause = 100 * time.Millisecond

// soon is the time until something is tried again that the kernel or another process delays.
const soon = 10 * time.Millisecond

// maxText limits the STATUS= of a copy, in bytes, so that a report fits into a datagram.
const maxText = 500

// parent is the process that runs the copies. Its state is Starting until all copies have started,
// then Serving, and Stopping from the first signal to stop, or when a copy has failed to start.
type parent struct {
	shared
	spec    process.Spec // of every copy
	copies  []*child
	state   string
	status  int // raw wait status to end with
	address string
	unsent  []string // to the superdaemon
	notices chan notice
	signals chan os.Signal
}

// child is a copy.
type child struct {
	Process            // its PID is 0 if it does not run
	started  time.Time // when it was started last
	deadline time.Time // when due has something to do, zero for never
	receiver *sdnotify.Receiver
	gone     chan struct{} // closed when it has ended
}

// notice is a message of a copy, or what was seen of it.
type notice struct {
	pid int
	sdnotify.Message
	accepting *accepting.Report
}

// init, not a call in main: every program that imports the superdaemon as a package includes the
// parent. During init the goroutine is on the first thread, which does not end before the process
// does: otherwise the kernel would kill the copies.
func init() {
	if len(os.Args) > 1 && os.Args[0] == title {
		exit(newParent().run())
	}
}

func newParent() *parent {
	p := &parent{state: Starting, notices: make(chan notice), signals: make(chan os.Signal, 100), address: os.Getenv("NOTIFY_SOCKET")}
	if err := json.Unmarshal([]byte(os.Getenv(variable)), &p.shared); err != nil {
		fmt.Fprintln(os.Stderr, "start_server: started as a worker by something else:", err)
		os.Exit(1)
	}
	process.ReserveThreads(2 + p.Count) // the Go runtime would abort if it cannot create one later
	var stop []os.Signal
	for _, sig := range p.Stop {
		stop = append(stop, sig)
	}
	signal.Notify(p.signals, append(stop, syscall.SIGCHLD)...)
	signal.Ignore(syscall.SIGPIPE) // copies inherit that (Server::Starter 0.35)
	p.spec = process.Spec{
		Args: os.Args[1:], Dir: p.Dir, LogPrefix: p.LogPrefix, SetListenPID: p.SetListenPID,
		Group: p.Group, DieWithParent: true,
		Env: slices.DeleteFunc(os.Environ(), func(word string) bool {
			return strings.HasPrefix(word, variable+"=") || strings.HasPrefix(word, "NOTIFY_SOCKET=")
		}),
		Files: []uintptr{0, 1, 2},
	}
	for _, fd := range process.Inherited() {
		for len(p.spec.Files) < fd {
			p.spec.Files = append(p.spec.Files, process.Closed)
		}
		p.spec.Files = append(p.spec.Files, uintptr(fd))
	}
	for n := range p.Count {
		p.copies = append(p.copies, &child{Process: Process{Number: n + 1}})
	}
	return p
}

// run returns when no copy is left, with the raw wait status to end with.
func (p *parent) run() int {
	for _, c := range p.copies {
		if p.state == Starting {
			p.start(c)
		}
	}
	signal.Notify(p.signals, slices.DeleteFunc(passedOn(), signal.Ignored)...)
	timer := time.NewTimer(0)
	for !p.done() {
		select {
		case sig := <-p.signals:
			if sig != syscall.SIGCHLD {
				p.passOn(sig.(syscall.Signal))
			}
		case n := <-p.notices:
			p.onNotice(n)
		case <-timer.C:
		}
		for pid, status, ok := process.Reap(); ok; pid, status, ok = process.Reap() {
			p.onExit(pid, status)
		}
		timer.Reset(p.due())
	}
	p.await()
	return p.status
}

func (p *parent) done() bool {
	running := slices.ContainsFunc(p.copies, func(c *child) bool { return c.PID != 0 })
	return !running && (p.state != Serving || p.orphaned())
}

// orphaned reports whether the superdaemon is gone, or was sent KILL: dead copies are not replaced any more, as dead
// workers are not.
func (p *parent) orphaned() bool {
	return os.Getppid() != p.Superdaemon || process.Ending(p.Superdaemon)
}

// due does what is due, and returns the time until it has to be called again.
func (p *parent) due() time.Duration {
	now, next := time.Now(), time.Now().Add(time.Hour)
	for _, c := range p.copies {
		if !c.deadline.IsZero() && !now.Before(c.deadline) {
			c.deadline = time.Time{}
			p.onDeadline(c)
		}
		if !c.deadline.IsZero() && c.deadline.Before(next) {
			next = c.deadline
		}
	}
	if p.flush(); len(p.unsent) > 0 {
		return soon
	}
	return max(time.Until(next), 0)
}

func (p *parent) onDeadline(c *child) {
	switch {
	case c.PID == 0:
		if p.state == Serving && !p.orphaned() {
			p.start(c)
		}
	case c.State == Stopping:
		_ = unix.Kill(c.PID, unix.SIGKILL)
	case !p.byInterval(c): // a replacement; before that the superdaemon decides
		c.Late = true
		p.stop(c)
	case process.IsTrampoline(c.PID): // whether the program can be executed is not known yet
		c.deadline = time.Now().Add(soon)
	default:
		p.onStarted(c)
	}
}

func (p *parent) start(c *child) {
	spec := p.spec
	spec.Env = append(slices.Clone(spec.Env), NumberVariable+"="+strconv.Itoa(c.Number))
	pid, err := p.startWith(spec, c)
	c.Process = Process{Number: c.Number, PID: pid}
	if c.started = time.Now(); err != nil {
		c.Error = err.Error()
		p.setState(c, Ended)
		p.onFailure(c, waitstatus.NotExecuted)
		return
	}
	c.gone = make(chan struct{})
	if p.AcceptTimeout > 0 {
		go accepting.Watch(c.gone, pid, p.Sockets, func(r accepting.Report) { p.notify(c.gone, notice{pid: pid, accepting: &r}) })
	}
	if p.byInterval(c) {
		c.deadline = c.started.Add(p.Interval)
	} else if p.state == Serving {
		c.deadline = c.started.Add(p.timeout())
	}
	p.setState(c, Starting)
}

// byInterval reports whether a copy has started if it is alive after the interval.
func (p *parent) byInterval(c *child) bool { return p.timeout() == 0 || c.Unseen != "" }

// timeout returns the time after which a copy that has not shown that it has started has failed, or 0.
func (p *parent) timeout() time.Duration { return max(p.ReadyTimeout, p.AcceptTimeout) }

// notify passes a notice to run, unless the copy has ended.
func (p *parent) notify(gone <-chan struct{}, n notice) {
	select {
	case p.notices <- n:
	case <-gone:
	}
}

// startWith starts the program, with a notify socket if it has to send READY=1.
func (p *parent) startWith(spec process.Spec, c *child) (pid int, err error) {
	if p.ReadyTimeout == 0 {
		return process.Start(spec)
	}
	receiver, err := sdnotify.Listen(fmt.Sprintf("start_server/%d/%d", os.Getpid(), c.Number))
	if err != nil {
		return 0, err
	}
	spec.Env = append(spec.Env, "NOTIFY_SOCKET="+receiver.Address())
	if pid, err = process.Start(spec); err != nil {
		_ = receiver.Close()
		return 0, err
	}
	c.receiver = receiver
	go func() {
		for trusted := sdnotify.Trusted(pid); ; {
			m, err := receiver.Next(trusted)
			if err != nil {
				return
			}
			p.notices <- notice{pid: pid, Message: m}
		}
	}()
	return pid, nil
}

// onStarted handles that a copy has started.
func (p *parent) onStarted(c *child) {
	c.deadline, c.Report = time.Time{}, accepting.Report{}
	p.setState(c, Serving)
	if p.state == Starting && !slices.ContainsFunc(p.copies, func(c *child) bool { return c.State != Serving }) {
		p.state = Serving
		process.SetName("start_server")
		p.send("READY=1")
	}
}

// onExit handles the death of a copy.
func (p *parent) onExit(pid, status int) {
	for _, c := range p.copies {
		if c.PID != pid {
			continue
		}
		if c.receiver != nil {
			_ = c.receiver.Close()
			c.receiver = nil
		}
		close(c.gone)
		c.Status, c.deadline = status, time.Time{}
		p.setState(c, Ended)
		c.PID = 0
		p.onFailure(c, status)
	}
}

// onFailure handles that a copy is gone: before all have started, the worker has failed to start.
func (p *parent) onFailure(c *child, status int) {
	switch p.state {
	case Starting:
		p.state, p.status = Stopping, status
		p.send("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt((2*p.patience()).Microseconds(), 10)) // until the others have ended
		for _, other := range p.copies {
			p.stop(other)
		}
	case Serving:
		c.deadline = c.started.Add(max(p.Interval, pause))
		if killed := syscall.WaitStatus(status).Signal() == syscall.SIGKILL; killed && time.Until(c.deadline) < pause {
			c.deadline = time.Now().Add(pause)
		}
	case Stopping:
		if p.status == 0 {
			p.status = status
		}
	}
}

// stop stops a copy because it, or another one, failed to start. If it is still there after as long
// as it was given to start, it is killed.
func (p *parent) stop(c *child) {
	if c.PID != 0 {
		c.deadline = time.Now().Add(p.patience())
		p.setState(c, Stopping)
		_ = unix.Kill(c.PID, p.Stop[0])
	}
}

// patience returns the time that a copy is given to start.
func (p *parent) patience() time.Duration {
	return max(cmp.Or(p.timeout(), p.Interval), pause)
}

// passOn passes a signal on to the copies.
func (p *parent) passOn(sig syscall.Signal) {
	stops := slices.Contains(p.Stop, sig)
	if stops && p.state != Stopping {
		p.state = Stopping
	}
	for _, c := range p.copies {
		if c.PID == 0 {
			continue
		}
		_ = unix.Kill(c.PID, sig)
		if stops && c.State != Stopping {
			c.deadline = time.Time{} // from now on the superdaemon decides when to kill
			p.setState(c, Stopping)
		}
	}
}

func (p *parent) onNotice(n notice) {
	i := slices.IndexFunc(p.copies, func(c *child) bool { return c.PID == n.pid })
	if i < 0 {
		return
	}
	c := p.copies[i]
	if n.HasStatus {
		c.Text = printable(n.Status)
		p.report(c)
	}
	if n.Extend > 0 {
		if by := time.Now().Add(n.Extend); !c.deadline.IsZero() && c.deadline.Before(by) {
			c.deadline = by
		}
		if p.state != Serving {
			p.send("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(n.Extend.Microseconds(), 10))
		}
	}
	if c.State == Starting {
		switch r := n.accepting; {
		case n.Ready || r != nil && r.Unseen == "" && len(r.Missing) == 0:
			p.onStarted(c)
		case r != nil:
			if c.Report = *r; r.Unseen != "" {
				c.deadline = c.started.Add(p.Interval)
			}
			p.report(c)
		}
	}
}

// printable drops what would make a report larger, and cuts the rest.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), maxText)], "")
}

func (p *parent) setState(c *child, state string) {
	c.State, c.Since = state, status.Timestamp(time.Now())
	p.report(c)
}

func (p *parent) report(c *child) {
	text, err := json.Marshal(c.Process)
	if err != nil {
		panic(err) // cannot happen: it consists of strings, numbers and a time
	}
	serving := 0
	for _, c := range p.copies {
		if c.State == Serving {
			serving++
		}
	}
	p.send(fmt.Sprintf("%s=%s\nSTATUS=%d of %d workers serve", sdnotify.ProcessVariable, text, serving, p.Count))
}

// send sends a message to the superdaemon, at once or, if it is busy, later.
func (p *parent) send(message string) {
	p.unsent = append(p.unsent, message)
	p.flush()
}

// flush sends the messages that could not be sent before. If the superdaemon is gone, they are
// dropped.
func (p *parent) flush() {
	for len(p.unsent) > 0 {
		if err := sdnotify.Send(p.address, p.unsent[0]); errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) {
			return
		}
		p.unsent = p.unsent[1:]
	}
}

// await waits until the superdaemon has read everything, as sd_notify_barrier(3) does: it closes the
// notify socket when this process ends.
func (p *parent) await() {
	const most = time.Second
	for end := time.Now().Add(most); len(p.unsent) > 0 && time.Now().Before(end); p.flush() {
		time.Sleep(soon)
	}
	read, write, err := process.Pipe()
	if err != nil {
		return
	}
	err = sdnotify.SendDescriptors(p.address, "BARRIER=1", []int{write})
	unix.Close(write)
	if err == nil {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(read)}}, int(most.Milliseconds()))
	}
}

// exit ends the process with a raw wait status.
func exit(status int) {
	ws := syscall.WaitStatus(status)
	if ws.Signaled() {
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
		signals.Default(ws.Signal())
		_ = unix.Kill(os.Getpid(), ws.Signal())
		time.Sleep(time.Second) // the signal comes at once
		os.Exit(128 + int(ws.Signal()))
	}
	os.Exit(ws.ExitStatus())
}
