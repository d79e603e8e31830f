//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fault is something that goes wrong. Inject returns when the cause is removed; the superdaemon may
// not have recovered yet.
type fault struct {
	name   string
	kills  int    // how many serving workers it kills; those lose what they are answering
	swaps  bool   // a new generation must come of it
	in     string // the name of the variant that it is for, "" for all
	alone  bool   // no HUPs at random besides
	outage bool   // nothing listens for a while: requests may be lost
	inject func(*harness) error
}

var faults = []fault{
	{name: "hup", swaps: true, inject: func(s *harness) error { return s.hup() }},
	{name: "hup_storm", swaps: true, inject: hupStorm},
	{name: "kill_current", kills: 1, swaps: true, alone: true, inject: killCurrent},
	{name: "kill_current_and_hup", kills: 1, swaps: true, alone: true, inject: killCurrentAndHUP},
	{name: "kill_old", kills: 1, swaps: true, alone: true, inject: killOld},
	{name: "kill_new", swaps: true, alone: true, inject: killNew},
	{name: "stop_current", inject: stopCurrent},
	{name: "stop_new", swaps: true, alone: true, inject: stopNew},
	{name: "late", swaps: true, alone: true, inject: late},
	{name: "program_fails", swaps: true, inject: brokenProgram("#!/bin/sh\nexit 1\n", 0o755)},
	{name: "program_garbage", swaps: true, inject: brokenProgram("\x7fELF and no more", 0o755)},
	{name: "program_not_executable", swaps: true, inject: brokenProgram("", 0o644)},
	{name: "program_gone", swaps: true, inject: programGone},
	{name: "log_command_killed", inject: logCommandKilled},
	{name: "log_command_stopped", inject: logCommandStopped},
	{name: "log_directory_gone", inject: logDirectoryGone},
	{name: "status_directory_gone", swaps: true, inject: statusDirectoryGone},
	{name: "descriptors_run_out", swaps: true, inject: limited("--nofile", "3", "failed to start a new worker")},
	{name: "fork_fails", swaps: true, inject: forkFails},
	{name: "files_full", swaps: true, inject: limited("--fsize", "0", "status file")},
	{name: "upgrade", alone: true, inject: upgrade},
	{name: "upgrade_and_hup", swaps: true, inject: upgradeAndHUP},
	{name: "upgrade_broken", inject: upgradeBroken},
	{name: "stray_signals", inject: straySignals},
	{name: "superdaemon_stopped", swaps: true, inject: superdaemonStopped},
	{name: "superdaemon_killed", swaps: true, alone: true, inject: superdaemonKilled},
	{name: "superdaemon_killed_in_restart", swaps: true, alone: true, inject: superdaemonKilledInRestart},
	{name: "sockets_shut_down", swaps: true, alone: true, outage: true, inject: socketsShutDown},
	{name: "log_unread", swaps: true, inject: logUnread},
	{name: "filesystem_hangs", swaps: true, inject: filesystemHangs},
	{name: "program_given_up", swaps: true, alone: true, inject: programGivenUp},
	{name: "hups", swaps: true, inject: hups},
	{name: "hang_new", swaps: true, alone: true, inject: hangNew},
	{name: "kill_new_while_looked_at", swaps: true, alone: true, inject: killNewWhileLookedAt},
	{name: "kill_copy", in: "workers", kills: 1, alone: true, inject: killCopy},
	{name: "random_kills", in: "workers", kills: 7, alone: true, inject: randomKills},
	{name: "flood", swaps: true, inject: flood},
	{name: "flood_new", swaps: true, alone: true, inject: floodNew},
}

// someTime returns a random time below this number of milliseconds.
func (s *harness) someTime(milliseconds int) time.Duration {
	return time.Duration(s.rand.IntN(milliseconds*1000)) * time.Microsecond
}

func (s *harness) hup() error { return s.cmd.Process.Signal(syscall.SIGHUP) }

// current is the pid of the worker that answers.
func (s *harness) current() (pid int, err error) {
	err = s.until("a worker answers", func() bool { _, pid = s.ask(); return pid != 0 })
	return pid, err
}

// second waits until there is a worker besides the given one, and returns its pid.
func (s *harness) second(first int) (pid int, err error) {
	err = s.until("a second worker", func() bool {
		for _, pid = range s.workers() {
			if pid != first {
				return true
			}
		}
		return false
	})
	return pid, err
}

// untilLogged does something and waits until the log has this number of further lines with the
// text.
func (s *harness) untilLogged(text string, times int, do func() error) error {
	before := s.logged(text)
	if err := do(); err != nil {
		return err
	}
	return s.until(fmt.Sprintf("%d more lines %q", times, text), func() bool { return s.logged(text) >= before+times })
}

func hupStorm(s *harness) error {
	for range 300 * (1 + s.rand.IntN(3)) {
		if err := s.hup(); err != nil {
			return err
		}
		time.Sleep(time.Second / 300)
	}
	return nil
}

func killCurrent(s *harness) error {
	pid, err := s.current()
	if err != nil {
		return err
	}
	return kill(pid)
}

// kill kills a process and waits until it is dead.
func kill(pid int) error {
	if err := ignoreGone(syscall.Kill(pid, syscall.SIGKILL)); err != nil {
		return err
	}
	for ; ; time.Sleep(time.Millisecond) {
		if _, rest := stat(pid); rest == "" || rest[0] == 'Z' {
			return nil
		}
	}
}

func killCurrentAndHUP(s *harness) error {
	pid, err := s.current()
	if err != nil {
		return err
	}
	if s.rand.IntN(2) == 0 {
		return errors.Join(syscall.Kill(pid, syscall.SIGKILL), s.hup())
	}
	return errors.Join(s.hup(), syscall.Kill(pid, syscall.SIGKILL))
}

// killOld kills the old worker at some moment around its end.
func killOld(s *harness) error {
	pid, err := s.current()
	if err != nil {
		return err
	}
	if err := s.hup(); err != nil {
		return err
	}
	time.Sleep(s.someTime(40))
	return ignoreGone(syscall.Kill(pid, syscall.SIGKILL))
}

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// gated starts by HUP a worker that is not ready before the gate is opened, and does what the gate
// says, and calls do with its pid.
func (s *harness) gated(gate string, do func(pid int) error) error {
	first, err := s.current()
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("gate"), []byte(gate), 0o644); err != nil {
		return err
	}
	defer os.Remove(s.path("gate"))
	if err := s.hup(); err != nil {
		return err
	}
	pid, err := s.second(first)
	if err != nil {
		return err
	}
	return do(pid)
}

func killNew(s *harness) error {
	return s.gated("", func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) })
}

// stopNew stops a worker that is starting for longer than it has to get ready: TERM does not reach
// it, only KILL.
func stopNew(s *harness) error {
	return s.gated("", func(pid int) error {
		return s.untilLogged("new worker "+strconv.Itoa(pid)+" seems to have failed to start", 1, func() error {
			return syscall.Kill(pid, syscall.SIGSTOP)
		})
	})
}

// late is a worker that is not ready in time.
func late(s *harness) error {
	return s.gated("", func(pid int) error {
		text := "new worker " + strconv.Itoa(pid) + " seems to have failed to start"
		return s.until(text, func() bool { return s.logged(text) == 1 })
	})
}

// hangNew is a version that hangs and ignores TERM. Besides the worker that serves there may be one
// that has got KILL, one that gets it next and one that is starting.
func hangNew(s *harness) error {
	return s.gated("hang", func(int) error {
		const text = "it was told to stop, sending KILL"
		most, killed := 0, s.logged(text)+1+s.rand.IntN(2)
		err := s.until(text, func() bool { most = max(most, len(s.workers())); return s.logged(text) >= killed })
		if most > 4 {
			err = errors.Join(err, fmt.Errorf("%d workers at once", most))
		}
		return err
	})
}

// killNewWhileLookedAt kills workers while they start and end children.
func killNewWhileLookedAt(s *harness) error {
	first, err := s.current()
	if err != nil {
		return err
	}
	return s.gated("children", func(pid int) error {
		for range 1 + s.rand.IntN(4) {
			time.Sleep(s.someTime(60))
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return err
			}
			before := pid
			if err := s.until("the next worker", func() bool { pid, err = s.second(first); return pid != before }); err != nil {
				return err
			}
		}
		return err
	})
}

func killCopy(s *harness) error {
	pid, err := s.current()
	if err != nil {
		return err
	}
	copies := children(pid)
	if len(copies) == 0 {
		return nil // it was killed a moment ago
	}
	return kill(copies[s.rand.IntN(len(copies))].pid)
}

// randomKills kills the worker, a copy, or the superdaemon and then a copy, without waiting until it
// has recovered from the last one. While there is no superdaemon, a copy is left to hold the sockets.
func randomKills(s *harness) error {
	for range 3 + s.rand.IntN(5) {
		time.Sleep(s.someTime(300))
		var err error
		switch s.rand.IntN(3) {
		case 0:
			err = killCurrent(s)
		case 1:
			err = killCopy(s)
		default:
			if err = s.recovered(0); err == nil {
				s.signal(syscall.SIGKILL)
				<-s.ended
				err = errors.Join(killCopy(s), s.start(), s.recovered(0))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hups has new generations come while old ones go.
func hups(s *harness) error {
	for range 2 + s.rand.IntN(6) {
		generation, _ := s.ask()
		if err := s.hup(); err != nil {
			return err
		}
		if err := s.until("a newer generation answers", func() bool { now, _ := s.ask(); return now > generation }); err != nil {
			return err
		}
		time.Sleep(s.someTime(100))
	}
	return nil
}

// flood is a worker that reports its status as fast as it can.
func flood(s *harness) error {
	response, err := s.client.Get("http://localhost/flood")
	if err != nil {
		return err
	}
	response.Body.Close()
	time.Sleep(s.someTime(2000))
	return hups(s)
}

func floodNew(s *harness) error {
	return s.gated("flood", func(int) error {
		time.Sleep(s.someTime(1500))
		return nil
	})
}

func stopCurrent(s *harness) error {
	pid, err := s.current()
	if err != nil {
		return err
	}
	if err := ignoreGone(syscall.Kill(pid, syscall.SIGSTOP)); err != nil {
		return err
	}
	time.Sleep(s.someTime(2000))
	return ignoreGone(syscall.Kill(pid, syscall.SIGCONT))
}

// brokenProgram deploys something that does not work, and repairs it after some attempts.
func brokenProgram(text string, mode os.FileMode) func(*harness) error {
	return func(s *harness) error {
		if err := replaceBy(s.path("app"), []byte(text), mode); err != nil {
			return err
		}
		return s.deployBroken()
	}
}

func programGone(s *harness) error {
	if err := os.Remove(s.path("app")); err != nil {
		return err
	}
	return s.deployBroken()
}

// deployBroken sends HUP and repairs the program after some attempts.
func (s *harness) deployBroken() error {
	err := s.untilLogged("seems to have failed to start", 1+s.rand.IntN(3), s.hup)
	return errors.Join(err, replace(s.path("app"), s.path("good")))
}

func logCommandKilled(s *harness) error {
	for range 1 + s.rand.IntN(5) {
		for _, pid := range s.named("cat") {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(s.someTime(100))
	}
	return s.hup()
}

func logCommandStopped(s *harness) error {
	pids := s.named("cat")
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	s.hup()
	time.Sleep(s.someTime(1500))
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	return nil
}

func logDirectoryGone(s *harness) error {
	if err := os.Rename(s.path("log"), s.path("log.away")); err != nil {
		return err
	}
	err := logCommandKilled(s)
	time.Sleep(s.someTime(1500))
	return errors.Join(err, os.Rename(s.path("log.away"), s.path("log")))
}

func statusDirectoryGone(s *harness) error {
	generation, _ := s.ask()
	if err := os.Rename(s.path("run"), s.path("run.away")); err != nil {
		return err
	}
	if err := s.hup(); err != nil {
		return err
	}
	err := s.until("a new generation answers", func() bool { now, _ := s.ask(); return now > generation })
	time.Sleep(s.someTime(500))
	err = errors.Join(err, os.Rename(s.path("run.away"), s.path("run")))
	return errors.Join(err, s.hup())
}

// limited sets a limit for the superdaemon, not for its workers, that fails at a HUP, and waits
// until its log reports that. The option is one of prlimit(1).
func limited(option, limit, complaint string) func(*harness) error {
	return func(s *harness) error {
		old, err := s.prlimit("--raw", "--noheadings", "--output=SOFT", option)
		if err != nil {
			return err
		}
		err = s.untilLogged(complaint, 1, func() error { // a worker of an earlier HUP may meet the limit first
			_, err := s.prlimit(option + "=" + limit + ":")
			return errors.Join(err, s.hup())
		})
		time.Sleep(s.someTime(1500))
		_, failed := s.prlimit(option + "=" + old + ":")
		return errors.Join(err, failed, s.hup())
	}
}

// prlimit sets or reads a limit of the superdaemon. It takes a process of the same user: root
// without CAP_SYS_RESOURCE, as in many a container, may not.
func (s *harness) prlimit(args ...string) (string, error) {
	cmd := exec.Command("prlimit", append([]string{"--pid=" + strconv.Itoa(s.cmd.Process.Pid)}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cmd.SysProcAttr.Credential}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("prlimit %v: %w: %s", args, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// forkFails needs a superdaemon that is not root's, to which RLIMIT_NPROC does not apply.
func forkFails(s *harness) error {
	if os.Getuid() != 0 {
		return s.hup() // its user has other processes, and they are not to be disturbed
	}
	return limited("--nproc", "1", "failed to start a new worker")(s)
}

// upgrade replaces the binary and sends USR2. It returns when the new one runs.
func upgrade(s *harness) error {
	if err := replace(s.path("start_server"), s.path("binary")); err != nil {
		return err
	}
	if err := s.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		return err
	}
	return s.until("the new binary runs", func() bool {
		running, err1 := os.Stat(fmt.Sprintf("/proc/%d/exe", s.cmd.Process.Pid))
		installed, err2 := os.Stat(s.path("start_server"))
		return err1 == nil && err2 == nil && os.SameFile(running, installed)
	})
}

func upgradeAndHUP(s *harness) error {
	done := make(chan error, 1)
	hups, pauses := 1+s.rand.IntN(20), make([]time.Duration, 20)
	for i := range pauses {
		pauses[i] = s.someTime(10)
	}
	go func() {
		var err error
		for i := range hups {
			time.Sleep(pauses[i])
			err = errors.Join(err, s.hup())
		}
		done <- err
	}()
	return errors.Join(upgrade(s), <-done)
}

func upgradeBroken(s *harness) error {
	text := []string{"#!/bin/sh\nexit 1\n", "#!/bin/sh\necho 9.9\n", "\x7fELF and no more", ""}[s.rand.IntN(4)]
	if err := replaceBy(s.path("start_server"), []byte(text), 0o755); err != nil {
		return err
	}
	err := s.untilLogged("USR2", 1, func() error { return s.cmd.Process.Signal(syscall.SIGUSR2) })
	time.Sleep(s.someTime(200))
	return errors.Join(err, replace(s.path("start_server"), s.path("binary")))
}

func straySignals(s *harness) error {
	// Left out are those that stop a process, like TTOU: they are for the terminal's user. And 34,
	// which Go cannot catch.
	strays := []syscall.Signal{syscall.SIGUSR1, syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGCONT, syscall.SIGPIPE,
		syscall.SIGCHLD, syscall.SIGURG, syscall.SIGIO, syscall.SIGVTALRM, syscall.SIGPROF, syscall.SIGPWR, syscall.SIGXCPU,
		syscall.SIGXFSZ, syscall.SIGTRAP, syscall.SIGSYS, syscall.SIGABRT, syscall.Signal(40), syscall.Signal(64)}
	for range 100 {
		if err := s.cmd.Process.Signal(strays[s.rand.IntN(len(strays))]); err != nil {
			return err
		}
		time.Sleep(s.someTime(5))
	}
	return nil
}

func superdaemonStopped(s *harness) error {
	s.signal(syscall.SIGSTOP)
	s.hup()
	time.Sleep(s.someTime(1000))
	s.signal(syscall.SIGCONT)
	return nil
}

func superdaemonKilled(s *harness) error { return s.restart() }

// superdaemonKilledInRestart kills it at some moment around a swap, and the next ones while they
// take over.
func superdaemonKilledInRestart(s *harness) error {
	if err := s.hup(); err != nil {
		return err
	}
	for range s.rand.IntN(3) {
		time.Sleep(s.someTime(40))
		s.signal(syscall.SIGKILL)
		<-s.ended
		if err := s.start(); err != nil {
			return err
		}
	}
	time.Sleep(s.someTime(40))
	return s.restart()
}

// restart kills the superdaemon and starts it again, with further options if any. The workers serve
// meanwhile.
func (s *harness) restart(options ...string) error {
	s.signal(syscall.SIGKILL)
	<-s.ended
	time.Sleep(s.someTime(500))
	return s.start(options...)
}

// socketsShutDown does to the listening sockets, which all workers share, what some servers do when
// they end.
func socketsShutDown(s *harness) error {
	pid, err := s.current()
	if err != nil {
		return err
	}
	if err := s.shutDownSockets(); err != nil {
		return err
	}
	time.Sleep(s.someTime(50))
	if s.variant.name == "steer" {
		return kill(pid) // it would not end while new clients come by UDP
	}
	return ignoreGone(syscall.Kill(pid, syscall.SIGTERM)) // as a server that cannot accept any more would end
}

func (s *harness) shutDownSockets() error {
	pidfd, err := unix.PidfdOpen(s.cmd.Process.Pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	for _, entry := range entries {
		number, _ := strconv.Atoi(entry.Name())
		fd, failed := unix.PidfdGetfd(pidfd, number, 0)
		if failed != nil {
			continue // it is closed
		}
		if listening, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); listening == 1 {
			err = errors.Join(err, unix.Shutdown(fd, unix.SHUT_RDWR))
		}
		unix.Close(fd)
	}
	return err
}

// logUnread fills the pipe of the log command, which reads nothing, and has a worker replaced then.
func logUnread(s *harness) error {
	pids, generation := s.named("cat"), s.newest()
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	for range 3000 { // a line for each of them that does not meet another
		s.signal(syscall.SIGUSR1)
		time.Sleep(200 * time.Microsecond)
	}
	err := s.hup()
	if err == nil {
		err = s.until("a new generation answers", func() bool { now, _ := s.ask(); return now > generation })
	}
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	return err
}

// filesystemHangs deploys a program on a file system that hangs when it is started.
func filesystemHangs(s *harness) error {
	if s.hang == "" {
		return s.hup()
	}
	link := s.path("app") + ".new"
	if err := errors.Join(os.Symlink(filepath.Join(s.hang, "mnt", "app"), link), os.Rename(link, s.path("app"))); err != nil {
		return err
	}
	hangs := filepath.Join(s.hang, "switch")
	if err := os.WriteFile(hangs, nil, 0o644); err != nil {
		return err
	}
	err := s.untilLogged(" after 2 secs, sending TERM", 1+s.rand.IntN(3), s.hup)
	if s.rand.IntN(2) == 0 { // it works from there as well, once it answers
		err = errors.Join(err, os.Remove(hangs))
		time.Sleep(s.someTime(1500))
		return errors.Join(err, replace(s.path("app"), s.path("good")))
	}
	return errors.Join(err, replace(s.path("app"), s.path("good")), os.Remove(hangs))
}

// programGivenUp deploys something that does not work, under a superdaemon that gives up.
func programGivenUp(s *harness) error {
	attempts := 1 + s.rand.IntN(3)
	if err := s.restart("--max-attempts=" + strconv.Itoa(attempts)); err != nil {
		return err
	}
	if err := s.recovered(0); err != nil {
		return err
	}
	pid, err := s.current()
	if err != nil {
		return err
	}
	if err := replaceBy(s.path("app"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		return err
	}
	err = s.untilLogged("giving up the restart", 1, s.hup)
	err = errors.Join(err, replace(s.path("app"), s.path("good")))
	if now, _ := s.current(); now != pid {
		err = errors.Join(err, fmt.Errorf("worker %d serves, not %d", now, pid))
	}
	return errors.Join(err, s.restart())
}
