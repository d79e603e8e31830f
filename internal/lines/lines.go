// Package lines has the log lines of the superdaemon. Their text is an interface: scripts of operators
// match it (Server::Starter 0.35).
package lines

import (
	"fmt"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/signame"
	"github.com/start-server/start-server/internal/waitstatus"
)

func Starting(pid int) string {
	return fmt.Sprintf("start_server (pid:%d) starting now...", pid)
}

func Duplicated(fd int) string {
	return fmt.Sprintf("socket is duplicated to file descriptor %d", fd)
}

func RemovingSocket(path string) string {
	return "removing existing socket file:" + path
}

func Left(pids []int) string {
	return "workers of a start_server that was killed may still be there:" + PIDs(pids)
}

func TakenOver(key string, pid int) string {
	return fmt.Sprintf("taking over socket %s from worker %d of a start_server that was killed", key, pid)
}

func NotTakenOver(key string, err error) string {
	return fmt.Sprintf("socket %s is not taken over: %v", key, err)
}

func NotSteered(err error) string {
	return fmt.Sprintf("failed to steer UDP packets: %v", err)
}

func Mended(key string) string {
	return fmt.Sprintf("socket %s was shut down by a worker, listening again", key)
}

const SocketReplaced = "the workers hold a socket that was replaced, spawning a new worker"

func Adopted(pid, generation int) string {
	return fmt.Sprintf("worker %d (generation %d) is an old worker from now on", pid, generation)
}

func StartingWorker(pid int) string {
	return fmt.Sprintf("starting new worker %d", pid)
}

func NoWorker(err error) string {
	return fmt.Sprintf("failed to start a new worker: %v", err)
}

func FailedToStart(pid, status int) string {
	return fmt.Sprintf("new worker %d seems to have failed to start, exit status:%s", pid, waitstatus.Number(status))
}

const (
	HintSockets = "hint: if the server reports \"address already in use\", it is binding the port itself; " +
		"it must use the sockets in SERVER_STARTER_PORT"
	HintForeground = "hint: the program ended without an error; a server must stay in the foreground and not detach itself"
	HintOneWord    = "hint: the program and each argument are words of their own: -- ./app --flag, not -- \"./app --flag\""
	HintReady      = "hint: with --ready-timeout the server must send READY=1 to $NOTIFY_SOCKET as soon as it can serve, see sd_notify(3)"
)

func NotReady(pid int, timeout time.Duration, sig string) string {
	return fmt.Sprintf("new worker %d is not ready after %s secs, sending %s", pid, Seconds(timeout), sig)
}

func NotAccepting(pid int, keys []string, timeout time.Duration, sig string) string {
	return fmt.Sprintf("new worker %d does not accept connections on %s after %s secs, sending %s", pid, Keys(keys), Seconds(timeout), sig)
}

func Unseen(pid int, why string) string {
	return fmt.Sprintf("cannot see whether new worker %d accepts connections: %s; it has started if it is alive after --interval", pid, why)
}

func DiedUnexpectedly(pid, status int) string {
	return fmt.Sprintf("worker %d died unexpectedly with status:%s, restarting", pid, waitstatus.Number(status))
}

const ReceivedHUP = "received HUP, spawning a new worker"

func NowRunning(sig string, old []int) string {
	list := "none"
	if len(old) > 0 {
		list = PIDs(old)
	}
	return fmt.Sprintf("new worker is now running, sending %s to old workers:%s", sig, list)
}

func StopFirst(sig string, old []int) string {
	return fmt.Sprintf("sending %s to old workers:%s, starting a new worker when they are gone", sig, PIDs(old))
}

func StopDelayed(sig string, delay time.Duration) string {
	return fmt.Sprintf("received %s, stopping workers in %s secs", sig, Seconds(delay))
}

func Sleeping(delay time.Duration) string {
	return fmt.Sprintf("sleeping %s secs before killing old workers", Seconds(delay))
}

const KillingOld = "killing old workers"

func OldDied(pid, status int) string {
	return fmt.Sprintf("old worker %d died, status:%s", pid, waitstatus.Number(status))
}

func AutoRestart(interval time.Duration) string {
	return fmt.Sprintf("autorestart triggered (interval=%s)", Seconds(interval))
}

func AutoRestartForced(interval time.Duration) string {
	return fmt.Sprintf("autorestart triggered (forced, interval=%s)", Seconds(interval))
}

func ReceivedStop(sig, worker string, pids []int) string {
	return fmt.Sprintf("received %s, sending %s to all workers:%s", sig, worker, PIDs(pids))
}

func WorkerDied(pid, status int) string {
	return fmt.Sprintf("worker %d died, status:%s", pid, waitstatus.Number(status))
}

// A Failure says how a restart, or the first start, has failed.
type Failure struct {
	Attempts   int
	Generation int    // of the latest attempt
	Reason     string // why that one failed
}

func StartGivenUp(f Failure) string {
	return fmt.Sprintf("giving up the start after %s (generation %d: %s)", Count(f.Attempts, "failed attempt"), f.Generation, f.Reason)
}

func RestartGivenUp(f Failure, generation, pid int) string {
	return fmt.Sprintf("giving up the restart after %s (generation %d: %s), generation %d (pid %d) keeps serving",
		Count(f.Attempts, "failed attempt"), f.Generation, f.Reason, generation, pid)
}

func RestartGivenUpAlone(f Failure) string {
	return fmt.Sprintf("giving up the restart after %s (generation %d: %s), but no worker is serving: still trying",
		Count(f.Attempts, "failed attempt"), f.Generation, f.Reason)
}

func KillTimeout(pid int, timeout time.Duration) string {
	return fmt.Sprintf("worker %d is still there %s secs after it was told to stop, sending KILL", pid, Seconds(timeout))
}

func TooManyOld(pid, limit int) string {
	return fmt.Sprintf("worker %d is one of more than %d old workers, sending KILL", pid, limit)
}

func Ignored(sig string) string {
	return fmt.Sprintf("received %s, ignored", sig)
}

func Upgrading(executable string) string {
	return "received USR2, upgrading start_server to " + executable
}

func NotUpgraded(err error) string {
	return fmt.Sprintf("upgrade failed, still running the old version: %v", err)
}

func Upgraded(pid, generation int) string {
	return fmt.Sprintf("start_server upgraded (pid:%d), generation %d keeps serving", pid, generation)
}

// StoppedEarly is logged for a stop before any worker was started.
func StoppedEarly(sig syscall.Signal) string {
	return fmt.Sprintf("received %s while binding, exiting", signame.Of(sig))
}

const Exiting = "exiting"

func NotSent(sig syscall.Signal, pid int, err error) string {
	return fmt.Sprintf("failed to send %s to %d: %v", signame.Of(sig), pid, err)
}

func InvalidSeconds(name, value string, used time.Duration) string {
	return fmt.Sprintf("invalid %s %q: not a number of seconds; using %s", name, value, Seconds(used))
}

func InvalidListenFDs(value string) string {
	return fmt.Sprintf("LISTEN_FDS=%q is not a number of sockets, ignored", value)
}

func NotStored(err error) string {
	return fmt.Sprintf("use the descriptor store of the service manager: %v", err)
}

func NotNotified(address string, err error) string {
	return fmt.Sprintf("notify the service manager at NOTIFY_SOCKET=%q: %v", address, err)
}

func LogFileSlow(path string) string {
	return fmt.Sprintf("opening the log file %q takes long", path)
}

func LogFileNotReopened(path string, err error) string {
	return fmt.Sprintf("failed to reopen the log file %q: %v", path, err)
}

func StoppingLeft(pid, worker int) string {
	return fmt.Sprintf("stop_server (pid:%d) stopping worker %d of a start_server that was killed...", pid, worker)
}

func Stopping(pid, superdaemon int) string {
	return fmt.Sprintf("stop_server (pid:%d) stopping now (pid:%d)...", pid, superdaemon)
}
