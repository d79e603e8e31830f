package starter

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/process"
)

// The log lines of the superdaemon are in this file. Their text is an interface: scripts of
// operators match it (Server::Starter 0.35).

func msgStarting(pid int) string {
	return fmt.Sprintf("start_server (pid:%d) starting now...", pid)
}

func msgDuplicated(fd int) string {
	return fmt.Sprintf("socket is duplicated to file descriptor %d", fd)
}

func msgRemovingSocket(path string) string {
	return "removing existing socket file:" + path
}

func msgLeft(pids []int) string {
	return "workers of a start_server that was killed may still be there:" + joinPIDs(pids)
}

func msgTakenOver(key string, pid int) string {
	return fmt.Sprintf("taking over socket %s from worker %d of a start_server that was killed", key, pid)
}

func msgNotTakenOver(key string, err error) string {
	return fmt.Sprintf("socket %s is not taken over: %v", key, err)
}

func msgNotSteered(err error) string {
	return fmt.Sprintf("failed to steer UDP packets: %v", err)
}

func msgMended(key string) string {
	return fmt.Sprintf("socket %s was shut down by a worker, listening again", key)
}

const msgSocketReplaced = "the workers hold a socket that was replaced, spawning a new worker"

func msgAdopted(pid, generation int) string {
	return fmt.Sprintf("worker %d (generation %d) is an old worker from now on", pid, generation)
}

func msgStartingWorker(pid int) string {
	return fmt.Sprintf("starting new worker %d", pid)
}

func msgNoWorker(err error) string {
	return fmt.Sprintf("failed to start a new worker: %v", err)
}

func msgFailedToStart(pid, status int) string {
	return fmt.Sprintf("new worker %d seems to have failed to start, exit status:%s", pid, statusWord(status))
}

const (
	msgHintSockets = "hint: if the server reports \"address already in use\", it is binding the port itself; " +
		"it must use the sockets in SERVER_STARTER_PORT"
	msgHintForeground = "hint: the program ended without an error; a server must stay in the foreground and not detach itself"
	msgHintOneWord    = "hint: the program and each argument are words of their own: -- ./app --flag, not -- \"./app --flag\""
	msgHintReady      = "hint: with --ready-timeout the server must send READY=1 to $NOTIFY_SOCKET as soon as it can serve, see sd_notify(3)"
)

func msgNotReady(pid int, timeout time.Duration, sig string) string {
	return fmt.Sprintf("new worker %d is not ready after %s secs, sending %s", pid, seconds(timeout), sig)
}

func msgNotAccepting(pid int, keys []string, timeout time.Duration, sig string) string {
	return fmt.Sprintf("new worker %d %s after %s secs, sending %s", pid, notAcceptingOn(keys), seconds(timeout), sig)
}

// notAcceptingOn says on which sockets, by their keys, a worker does not accept connections.
func notAcceptingOn(keys []string) string {
	text := "does not accept connections"
	if len(keys) > 0 {
		text += " on " + strings.Join(keys, ", ")
	}
	return text
}

func msgUnseen(pid int, why string) string {
	return fmt.Sprintf("cannot see whether new worker %d accepts connections: %s; it has started if it is alive after --interval", pid, why)
}

func msgDiedUnexpectedly(pid, status int) string {
	return fmt.Sprintf("worker %d died unexpectedly with status:%s, restarting", pid, statusWord(status))
}

// numbered is a line about one of the processes of a worker.
func numbered(line string, number int) string {
	return fmt.Sprintf("%s (number %d)", line, number)
}

const msgReceivedHUP = "received HUP, spawning a new worker"

func msgNowRunning(sig string, old []int) string {
	list := "none"
	if len(old) > 0 {
		list = joinPIDs(old)
	}
	return fmt.Sprintf("new worker is now running, sending %s to old workers:%s", sig, list)
}

func msgStopFirst(sig string, old []int) string {
	return fmt.Sprintf("sending %s to old workers:%s, starting a new worker when they are gone", sig, joinPIDs(old))
}

func msgStopDelayed(sig string, delay time.Duration) string {
	return fmt.Sprintf("received %s, stopping workers in %s secs", sig, seconds(delay))
}

func msgSleeping(delay time.Duration) string {
	return fmt.Sprintf("sleeping %s secs before killing old workers", seconds(delay))
}

const msgKillingOld = "killing old workers"

func msgOldDied(pid, status int) string {
	return fmt.Sprintf("old worker %d died, status:%s", pid, statusWord(status))
}

func msgAutoRestart(interval time.Duration) string {
	return fmt.Sprintf("autorestart triggered (interval=%s)", seconds(interval))
}

func msgAutoRestartForced(interval time.Duration) string {
	return fmt.Sprintf("autorestart triggered (forced, interval=%s)", seconds(interval))
}

func msgReceivedStop(sig, worker string, pids []int) string {
	return fmt.Sprintf("received %s, sending %s to all workers:%s", sig, worker, joinPIDs(pids))
}

func msgWorkerDied(pid, status int) string {
	return fmt.Sprintf("worker %d died, status:%s", pid, statusWord(status))
}

// msgGivenUp is logged when a restart, or the first start, is given up. serving is the worker that
// keeps serving, nil if there is none.
func msgGivenUp(r restart, generation int, serving *worker, first bool) string {
	attempts := count(r.Attempts, "failed attempt")
	switch {
	case first:
		return fmt.Sprintf("giving up the start after %s (generation %d: %s)", attempts, generation, r.Reason)
	case serving == nil:
		return fmt.Sprintf("giving up the restart after %s (generation %d: %s), but no worker is serving: still trying",
			attempts, generation, r.Reason)
	}
	return fmt.Sprintf("giving up the restart after %s (generation %d: %s), generation %d (pid %d) keeps serving",
		attempts, generation, r.Reason, serving.Generation, serving.PID)
}

// statusWord returns a raw wait status in the form of the log.
func statusWord(status int) string {
	if status == statusUnknown {
		return "unknown"
	}
	return strconv.Itoa(status)
}

func howNotReady(timeout time.Duration) string {
	return fmt.Sprintf("not ready in %s secs", seconds(timeout))
}

func howNotAccepting(keys []string, timeout time.Duration) string {
	return fmt.Sprintf("%s after %s secs", notAcceptingOn(keys), seconds(timeout))
}

func msgKillTimeout(pid int, timeout time.Duration) string {
	return fmt.Sprintf("worker %d is still there %s secs after it was told to stop, sending KILL", pid, seconds(timeout))
}

func msgIgnored(sig string) string {
	return fmt.Sprintf("received %s, ignored", sig)
}

func msgUpgrading(executable string) string {
	return "received USR2, upgrading start_server to " + executable
}

func msgNotUpgraded(err error) string {
	return fmt.Sprintf("upgrade failed, still running the old version: %v", err)
}

func msgUpgraded(pid, generation int) string {
	return fmt.Sprintf("start_server upgraded (pid:%d), generation %d keeps serving", pid, generation)
}

// msgStoppedEarly is logged for a stop before any worker was started.
func msgStoppedEarly(sig os.Signal) string {
	return fmt.Sprintf("received %s while binding, exiting", process.SignalName(sig.(syscall.Signal)))
}

const msgExiting = "exiting"

func msgNotSent(sig syscall.Signal, pid int, err error) string {
	return fmt.Sprintf("failed to send %s to %d: %v", process.SignalName(sig), pid, err)
}

func msgInvalidSeconds(name, value string, used time.Duration) string {
	return fmt.Sprintf("invalid %s %q: not a number of seconds; using %s", name, value, seconds(used))
}

func msgInvalidListenFDs(value string) string {
	return fmt.Sprintf("LISTEN_FDS=%q is not a number of sockets, ignored", value)
}

func msgNotStored(err error) string {
	return fmt.Sprintf("use the descriptor store of the service manager: %v", err)
}

func msgNotNotified(address string, err error) string {
	return fmt.Sprintf("notify the service manager at NOTIFY_SOCKET=%q: %v", address, err)
}

func msgLogFileSlow(path string) string {
	return fmt.Sprintf("opening the log file %q takes long", path)
}

func msgLogFileNotReopened(path string, err error) string {
	return fmt.Sprintf("failed to reopen the log file %q: %v", path, err)
}

func msgStoppingLeft(pid, worker int) string {
	return fmt.Sprintf("stop_server (pid:%d) stopping worker %d of a start_server that was killed...", pid, worker)
}

func msgStopping(pid, superdaemon int) string {
	return fmt.Sprintf("stop_server (pid:%d) stopping now (pid:%d)...", pid, superdaemon)
}

// describeStatus returns a raw wait status in words.
func describeStatus(status int) string {
	if status == statusUnknown {
		return "exit status unknown"
	}
	ws := syscall.WaitStatus(status)
	if ws.Signaled() {
		return "killed by " + process.SignalName(ws.Signal())
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}

func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
}

func joinPIDs(pids []int) string {
	words := make([]string, len(pids))
	for i, pid := range pids {
		words[i] = strconv.Itoa(pid)
	}
	return strings.Join(words, ",")
}

// describe returns a description of the state for systemctl status.
func (s *supervisor) describe() string {
	if s.Phase == stopping {
		return fmt.Sprintf("stopping, waiting for %s", count(len(s.Old), "worker"))
	}
	text := "no worker is serving"
	if serving := s.serving(); serving != nil {
		text = fmt.Sprintf("generation %d (pid %d) is serving", serving.Generation, serving.PID)
		if serving.StatusText != "" {
			text += ": " + serving.StatusText
		}
	}
	if c := s.Candidate; c != nil && !c.Dead {
		text += fmt.Sprintf("; generation %d (pid %d) is starting", c.Generation, c.PID)
		if len(c.Missing) > 0 {
			text += ", " + notAcceptingOn(c.Missing)
		}
	}
	if n := len(s.Old) - len(s.notYetStopped()); n > 0 {
		text += fmt.Sprintf("; %s finishing", count(n, "old worker"))
	}
	if s.StopAt > 0 {
		text += "; stopping soon"
	}
	if r := s.Restart; r.Result == givenUp {
		text += fmt.Sprintf("; the last restart was given up after %s: %s", count(r.Attempts, "attempt"), r.Reason)
	}
	return text
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
