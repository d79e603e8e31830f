package starter

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/accepting"
	"github.com/start-server/start-server/internal/orphan"
	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/socket"
	"github.com/start-server/start-server/internal/steer"
)

// sockets holds the sockets that the workers listen on.
type sockets struct {
	config    Config
	list      []*socket.Socket
	inherited []int // other descriptors that the superdaemon inherited, which it passes on
	steered   []*steer.Group

	finder *orphan.Finder   // of workers that another superdaemon left
	taken  []*socket.Socket // those of list that were taken over from such workers
	warned string           // why a socket could not be mended

	unwanted []*socket.Socket // sockets from the descriptor store that no option names
	kept     *fdstore
}

func newSockets(c Config, inherited []int) *sockets {
	return &sockets{config: c, inherited: inherited, finder: orphan.NewFinder(""), kept: &fdstore{}}
}

// open opens a socket for every port, whose host is an address, and for every path. It takes over
// the socket of the service manager or of the workers of a killed superdaemon that is bound to the
// address, or binds a new one. Other sockets of the service manager are passed on. report is called
// with log lines, pause to wait, which ends open if it returns an error.
func (s *sockets) open(ports []portspec.Port, detached bool, pause func(time.Duration) error, report func(line string)) error {
	s.finder = orphan.NewFinder(s.config.StatusFile)
	s.finder.Pause = pause
	process.Reserve(len(s.config.Ports) + len(s.config.Paths))
	offered := s.activated(detached, report)
	given := slices.Clone(offered)
	take := func(named func(*socket.Socket) bool) *socket.Socket {
		for i, o := range offered {
			if named(o) {
				offered = append(offered[:i:i], offered[i+1:]...)
				return o
			}
		}
		return nil
	}
	for _, p := range ports {
		given := s.takeStored(take(func(o *socket.Socket) bool { return o.IsPort(p) }), p.Key, "")
		if err := s.addPort(p, given, report); err != nil {
			return err
		}
	}
	for _, path := range s.config.Paths {
		given := s.takeStored(take(func(o *socket.Socket) bool { return o.IsPath(path) }), path, path)
		if err := s.addPath(path, given, report); err != nil {
			return err
		}
	}
	s.list = append(s.list, s.dropStored(offered)...)
	for _, o := range given {
		s.finder.Adopt(o.FD, o.Key)
	}
	if s.config.AcceptTimeout > 0 && len(s.listening()) == 0 {
		return fmt.Errorf("--accept-timeout=%s: no TCP port or unix socket to accept connections on", seconds(s.config.AcceptTimeout))
	}
	return s.fit()
}

// fit makes sure that all these descriptors can be passed to a worker, or returns an error.
func (s *sockets) fit() error {
	files := s.forWorker(map[string]string{})
	limit, needed := process.DescriptorLimit(), process.DescriptorsNeeded(files)
	if needed <= limit {
		return process.RaiseDescriptorLimit(files)
	}
	for _, o := range s.list {
		if o.RequestedFD == len(files)-1 {
			return fmt.Errorf("--port=%s=%d: descriptor too close to RLIMIT_NOFILE (%d): starting a worker requires %d", o.Key, o.RequestedFD, limit, needed)
		}
	}
	return fmt.Errorf("pass %d sockets on: RLIMIT_NOFILE is %d, starting a worker requires %d", len(s.list), limit, needed)
}

func (s *sockets) addPort(p portspec.Port, given *socket.Socket, report func(string)) error {
	if limit := process.DescriptorLimit(); p.FD >= limit {
		return fmt.Errorf("--port=%s=%d: descriptor exceeds RLIMIT_NOFILE (%d)", p.Key, p.FD, limit)
	}
	var err error
	switch {
	case p.UDP && s.config.SteerUDP:
		given, err = s.openSteered(p, given, report)
	case given == nil:
		given, err = s.openPort(p, report)
	}
	if err != nil {
		return err
	}
	given.Key, given.RequestedFD = p.Key, p.FD
	if p.FD >= 0 {
		report(msgDuplicated(p.FD))
	}
	s.list = append(s.list, given)
	return nil
}

// openPort binds a port, or takes over its socket from a worker that was left. For UDP it looks for
// a worker first, since the system lets two datagram sockets have the same address.
func (s *sockets) openPort(p portspec.Port, report func(string)) (*socket.Socket, error) {
	if p.UDP {
		if taken, err := s.takeOverPort(p, report); taken != nil || errors.Is(err, errStopped) {
			return taken, err
		}
	}
	for attempt := 1; ; attempt++ {
		opened, err := socket.OpenPort(p, s.config.Backlog)
		if !errors.Is(err, unix.EADDRINUSE) {
			return opened, err
		}
		taken, why := s.takeOverPort(p, report)
		switch {
		case taken != nil:
			return taken, nil
		case attempt == 1 && (why == orphan.ErrNone || why == orphan.ErrUnseen):
			// The last process that held it may have ended meanwhile.
		case why == orphan.ErrNone:
			return nil, err
		default:
			return nil, fmt.Errorf("%w\n%w", err, why)
		}
	}
}

func (s *sockets) takeOverPort(p portspec.Port, report func(string)) (*socket.Socket, error) {
	a, err := orphan.PortAddress(p)
	if err != nil || p.Port == 0 {
		return nil, orphan.ErrNone
	}
	return s.takeOver(a, report)
}

// openPath listens on a path, or takes over its socket from a worker that was left.
func (s *sockets) openPath(path string, report func(string)) (*socket.Socket, error) {
	taken, err := s.takeOver(orphan.PathAddress(path), report)
	if taken != nil || errors.Is(err, errStopped) {
		return taken, err
	}
	if forbidden := (*orphan.ForbiddenError)(nil); errors.As(err, &forbidden) && forbidden.PID != 0 {
		report(msgNotTakenOver(path, err))
	}
	access, err := s.config.access(socket.DefaultAccess)
	if err != nil {
		return nil, err
	}
	return socket.OpenPath(path, s.config.Backlog, access, func(path string) { report(msgRemovingSocket(path)) })
}

// takeOver takes over a socket from a worker that was left.
func (s *sockets) takeOver(a orphan.Address, report func(string)) (*socket.Socket, error) {
	got, err := s.finder.Take(a)
	if err != nil {
		return nil, err
	}
	taken := socket.TakeOver(got.FD, a.Key, a.Path, s.config.Backlog)
	s.taken = append(s.taken, taken)
	report(msgTakenOver(a.Key, got.From))
	return taken, nil
}

// leftWorkers returns the workers that another superdaemon left: those that hold one of the
// sockets, and those that the status file names. From now on this superdaemon owns the sockets that
// were taken over.
func (s *sockets) leftWorkers(report func(string)) []orphan.Worker {
	for _, o := range s.taken {
		if err := s.setAccess(o); err != nil {
			report(err.Error())
		}
	}
	s.taken = nil
	s.store(s.kept)
	if others := s.finder.AdoptNamed(); len(others) > 0 {
		report(msgLeft(others))
	}
	return s.finder.Workers()
}

// setAccess changes what the options set of the access to a socket that was taken over.
func (s *sockets) setAccess(o *socket.Socket) error {
	if o.Path == "" {
		return nil
	}
	present, err := o.Access()
	if err != nil {
		return err
	}
	access, err := s.config.access(present)
	if err != nil {
		return err
	}
	return o.SetAccess(access)
}

// abandon gives up the sockets that were taken over, because the start has failed: their files
// belong to the workers.
func (s *sockets) abandon() {
	for _, o := range s.taken {
		o.Path = ""
	}
	s.finder.Close()
}

func (s *sockets) addPath(path string, given *socket.Socket, report func(string)) error {
	if given == nil {
		for _, other := range s.list {
			if other.Same(path) {
				return fmt.Errorf("listen on %q: the same address twice", path)
			}
		}
		var err error
		if given, err = s.openPath(path, report); err != nil {
			return err
		}
	}
	s.list = append(s.list, given)
	return nil
}

// activated returns the sockets that the service manager passed by sd_listen_fds(3) to this
// process, or to the one that detached it.
func (s *sockets) activated(detached bool, report func(string)) []*socket.Socket {
	value := os.Getenv("LISTEN_FDS")
	count, err := strconv.Atoi(value)
	if err != nil || count <= 0 {
		if value != "" {
			report(msgInvalidListenFDs(value))
		}
		return nil
	}
	pid := os.Getenv("LISTEN_PID")
	if pid != strconv.Itoa(os.Getpid()) && (!detached || pid != strconv.Itoa(os.Getppid())) {
		return nil
	}
	list, errs := socket.Inherit(count, s.inherited, strings.Split(os.Getenv("LISTEN_FDNAMES"), ":"))
	for _, err := range errs {
		report(err.Error())
	}
	s.inherited = slices.DeleteFunc(s.inherited, func(fd int) bool {
		return slices.ContainsFunc(list, func(s *socket.Socket) bool { return s.FD == fd })
	})
	return list
}

// mend makes sockets listen again on which a worker has called shutdown(2). It reports whether it
// replaced one by a new socket, which the workers do not have.
func (s *sockets) mend(report func(string)) (replaced bool) {
	warning := ""
	for _, o := range s.list {
		old := o.FD
		switch broken, err := o.Mend(s.config.Backlog); {
		case err != nil:
			warning = err.Error()
		case broken:
			report(msgMended(o.Key))
			replaced = replaced || o.FD != old
			if o.FD != old && o.Stored {
				s.unwanted = append(s.unwanted, &socket.Socket{Key: o.Key, FD: -1})
				s.store(s.kept)
			}
		}
	}
	if warning != "" && warning != s.warned {
		report(warning)
	}
	s.warned = warning
	return replaced
}

// forWorker returns the descriptors of a worker by their numbers in it, and adds the variables that
// name its sockets to vars.
func (s *sockets) forWorker(vars map[string]string) []uintptr {
	var files []uintptr
	var numbers []int
	if s.config.SocketActivation {
		var order []int
		files, numbers, order = socket.AssignActivationFDs(s.list, s.inherited)
		names := make([]string, len(order))
		for place, i := range order {
			names[place] = s.list[i].Name
		}
		vars["LISTEN_FDS"] = strconv.Itoa(len(order))
		vars["LISTEN_FDNAMES"] = strings.Join(names, ":")
		vars["LISTEN_PID"] = "" // only the child knows it
	} else {
		files, numbers = socket.AssignFDs(s.list, s.inherited)
	}
	entries := make([]string, len(numbers))
	for i, number := range numbers {
		entries[i] = s.list[i].Key + "=" + strconv.Itoa(number)
	}
	vars["SERVER_STARTER_PORT"] = strings.Join(entries, ";")
	return files
}

// listening returns the stream sockets.
func (s *sockets) listening() (list []accepting.Socket) {
	for _, o := range s.list {
		var st unix.Stat_t
		if o.Listening && unix.Fstat(o.FD, &st) == nil {
			list = append(list, accepting.Socket{Key: o.Key, Inode: st.Ino})
		}
	}
	return list
}

func (s *sockets) close() {
	for _, o := range s.list {
		o.Close()
	}
	for _, fd := range spares(s.steered, s.list) {
		unix.Close(fd)
	}
}

func (s *sockets) save(u *upgradeState) {
	u.Sockets, u.Inherited, u.Steered = s.list, s.inherited, s.steered
}

func (s *sockets) resume(u *upgradeState) {
	s.list, s.inherited, s.steered = u.Sockets, u.Inherited, u.Steered
}
