package starter

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/socket"
	"github.com/start-server/start-server/internal/statusfile"
)

// superdaemon is the hands of the supervisor: it holds the descriptors and does
// what is asked for. It decides nothing.
type superdaemon struct {
	config      Config
	environment environment
	detached    bool
	manager     *notifier
	loop        *loop

	sockets       []*socket.Socket
	inherited     []int // descriptors that we were given for no purpose of ours, and hand on
	statusWritten bool
	statusDue     time.Time // when to try again to write the status file; zero where it is true
	statusWarned  string    // why it could not be written
	pidFile       *pidfile.File
	out           *log
	receivers     map[int]*sdnotify.Receiver // by the pid of the worker
	notices       chan notice
	done          chan struct{} // closed at the end
	receiving     sync.WaitGroup
	warned        string    // the latest complaint about the environment
	executable    string    // the file that USR2 executes
	rested        int       // the generation after whose start memory was given back
	restAt        time.Time // when that is to be done next
	probe         *probe    // nil while nothing is tried out
}

func newSuperdaemon(c Config, detached bool) *superdaemon {
	return &superdaemon{
		config:      c,
		environment: newEnvironment(c, os.Environ()),
		detached:    detached,
		manager:     newManager(),
		inherited:   process.Inherited(),
		receivers:   map[int]*sdnotify.Receiver{},
		notices:     make(chan notice),
		done:        make(chan struct{}),
		executable:  process.Executable(),
	}
}

// activated takes over what the service manager passed by sd_listen_fds(3), if it
// was meant for us.
func (d *superdaemon) activated() []*socket.Socket {
	count, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || count <= 0 {
		if value := os.Getenv("LISTEN_FDS"); value != "" {
			d.log(fmt.Sprintf("LISTEN_FDS=%q is no number of sockets, ignored", value))
		}
		return nil
	}
	pid := os.Getenv("LISTEN_PID")
	if pid != strconv.Itoa(os.Getpid()) && (!d.detached || pid != strconv.Itoa(os.Getppid())) {
		return nil
	}
	sockets, errs := socket.Inherit(count, d.inherited, strings.Split(os.Getenv("LISTEN_FDNAMES"), ":"))
	for _, err := range errs {
		d.log(err.Error())
	}
	d.inherited = slices.DeleteFunc(d.inherited, func(fd int) bool {
		return slices.ContainsFunc(sockets, func(s *socket.Socket) bool { return s.FD == fd })
	})
	return sockets
}

// start starts a worker of that generation.
func (d *superdaemon) start(generation int) (int, error) {
	vars, _ := d.environment.read() // what is wrong was said when the settings were read
	own := map[string]string{}
	if d.loop.settings.autoRestart && d.loop.StartedAt > 0 && !isTrue(vars[autoRestartIntervalVariable]) {
		own[autoRestartIntervalVariable] = seconds(defaultAutoRestartInterval) // every worker but the first is told the default
	}
	files := d.handOn(own, generation)
	var receiver *sdnotify.Receiver
	if d.config.ReadyTimeout > 0 {
		var err error
		receiver, err = sdnotify.Listen(fmt.Sprintf("start_server/%d/%d", os.Getpid(), generation))
		if err != nil {
			return 0, err
		}
		own["NOTIFY_SOCKET"] = receiver.Address()
	}
	pid, err := process.Start(process.Spec{
		Args:         d.config.Program,
		Env:          encode(vars, own),
		Dir:          d.config.Dir,
		Files:        files,
		SetListenPID: d.config.SocketActivation,
	})
	switch {
	case receiver == nil:
	case err != nil:
		_ = receiver.Close()
	default:
		d.receive(pid, receiver)
	}
	return pid, err
}

// handOn tells a worker which sockets it has, and returns its descriptors.
func (d *superdaemon) handOn(own map[string]string, generation int) []uintptr {
	var files []uintptr
	var numbers []int
	if d.config.SocketActivation {
		var order []int
		files, numbers, order = socket.AssignActivationFDs(d.sockets, d.inherited)
		names := make([]string, len(order))
		for place, i := range order {
			names[place] = d.sockets[i].Name
		}
		own["LISTEN_FDS"] = strconv.Itoa(len(order))
		own["LISTEN_FDNAMES"] = strings.Join(names, ":")
		own["LISTEN_PID"] = "" // the child alone knows it
	} else {
		files, numbers = socket.AssignFDs(d.sockets, d.inherited)
	}
	entries := make([]string, len(numbers))
	for i, number := range numbers {
		entries[i] = d.sockets[i].Key + "=" + strconv.Itoa(number)
	}
	own["SERVER_STARTER_PORT"] = strings.Join(entries, ";")
	own["SERVER_STARTER_GENERATION"] = strconv.Itoa(generation)
	return files
}

// receive makes notices of what the worker says, until it is forgotten.
func (d *superdaemon) receive(pid int, receiver *sdnotify.Receiver) {
	d.receivers[pid] = receiver
	trusted := sdnotify.Trusted(pid)
	d.receiving.Add(1)
	go func() {
		defer d.receiving.Done()
		for {
			message, err := receiver.Next(trusted)
			if err != nil {
				return
			}
			select {
			case d.notices <- notice{pid, message}:
			case <-d.done:
				return
			}
		}
	}()
}

func (d *superdaemon) forget(pid int) {
	if receiver := d.receivers[pid]; receiver != nil {
		_ = receiver.Close()
		delete(d.receivers, pid)
	}
}

func (d *superdaemon) signal(pid int, sig syscall.Signal) {
	if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
		d.log(fmt.Sprintf("failed to send %s to %d: %v", process.SignalName(sig), pid, err))
	}
}

func (d *superdaemon) writeStatus(workers []statusfile.Worker) {
	if d.config.StatusFile == "" {
		return
	}
	err := statusfile.Write(d.config.StatusFile, workers)
	if err == nil {
		d.statusWritten, d.statusDue, d.statusWarned = true, time.Time{}, ""
		return
	}
	d.statusDue = time.Now().Add(retryStatus)
	if err.Error() != d.statusWarned {
		d.log(err.Error())
	}
	d.statusWarned = err.Error()
}

// retryStatus is the time between tries to write the status file.
const retryStatus = time.Second

// writeStatusAgain tries again what failed, and says when to call again.
func (d *superdaemon) writeStatusAgain() time.Duration {
	if d.statusDue.IsZero() {
		return 0
	}
	if time.Until(d.statusDue) <= 0 {
		d.loop.supervisor.writeStatus()
	}
	return max(time.Until(d.statusDue), 0)
}

// removeStaleStatus removes the status file of a superdaemon that was killed: it is
// true no more, and --restart would wait for a generation that never comes. Nobody else
// remembers the workers that it names, so the log gets those that are there.
func (d *superdaemon) removeStaleStatus() {
	var st unix.Stat_t
	err := unix.Lstat(d.config.StatusFile, &st)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() { // somebody else's names nobody to kill
		return
	}
	var left []int
	workers, _ := statusfile.Read(d.config.StatusFile)
	for _, w := range workers {
		if w.PID > 0 && unix.Kill(w.PID, 0) != unix.ESRCH {
			left = append(left, w.PID)
		}
	}
	if len(left) > 0 {
		d.log(msgLeft(left))
	}
	_ = unix.Unlink(d.config.StatusFile)
}

func (d *superdaemon) reopenLog() { d.out.reopen() }

func (d *superdaemon) log(line string) { d.out.print(line) }

func (d *superdaemon) notify(state string) {
	if err := d.manager.notify(state); err != nil {
		d.log(err.Error())
	}
}

func (d *superdaemon) currentSettings() settings {
	s, err := d.environment.settings()
	words := ""
	if err != nil {
		words = err.Error()
	}
	if words != d.warned && words != "" {
		d.log(words)
	}
	d.warned = words
	return s
}

func (d *superdaemon) reap() (pid, status int, ok bool) {
	for {
		pid, status, ok = process.Reap()
		if !ok || !d.out.onExit(pid) && !d.probeDied(pid, status) {
			return pid, status, ok
		}
	}
}

func (d *superdaemon) runPending() time.Duration {
	var waits []time.Duration
	for _, wait := range []time.Duration{d.out.chores(), d.manager.chores(), d.watchEnvDir(), d.rest(), d.upgradeChores(), d.writeStatusAgain()} {
		if wait > 0 {
			waits = append(waits, wait)
		}
	}
	if len(waits) == 0 {
		return 0
	}
	return slices.Min(waits)
}

// restAfter is how long nothing must have been under way before memory is given back: a
// restart seldom comes alone.
const restAfter = time.Second / 2

// rest gives memory back once after each restart. It says when to call again.
func (d *superdaemon) rest() time.Duration {
	if !d.loop.idle() || d.rested == d.loop.Generation {
		d.restAt = time.Time{}
		return 0
	}
	if d.restAt.IsZero() {
		d.restAt = time.Now().Add(restAfter)
	}
	if wait := time.Until(d.restAt); wait > 0 {
		return wait
	}
	process.Trim()
	d.rested = d.loop.Generation
	return 0
}

// watchEnvDir says how often the envdir is read though nothing happens: every
// second where it can change when the next auto restart is due.
func (d *superdaemon) watchEnvDir() time.Duration {
	if d.environment.dir != "" && d.loop.settings.autoRestart {
		return time.Second
	}
	return 0
}
