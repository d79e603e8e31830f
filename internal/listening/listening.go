// Package listening has the sockets that the workers listen on: where they come from, and what a
// worker is given of them.
package listening

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
	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/orphan"
	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/socket"
	"github.com/start-server/start-server/internal/steer"
)

// Options say which sockets there are.
type Options struct {
	Ports            []string // as given to --port
	Paths            []string // of unix sockets
	Backlog          int      // connections; 0 is SOMAXCONN
	StatusFile       string   // names the workers of a superdaemon that was killed; "" for none
	SocketActivation bool     // pass the sockets by sd_listen_fds(3) as well
	SteerUDP         bool     // each generation has a socket of its own for every UDP port

	// Access returns the mode and the owner of a unix socket, those of present if no option sets them.
	Access func(present socket.Access) (socket.Access, error)
}

// Sockets holds the sockets that the workers listen on.
type Sockets struct {
	options   Options
	report    func(line string)
	list      []*socket.Socket
	inherited []int // other descriptors that the superdaemon inherited, which it passes on
	steered   []*steer.Group

	finder *orphan.Finder   // of workers that another superdaemon left
	taken  []*socket.Socket // those of list that were taken over from such workers
	warned string           // why a socket could not be mended

	unwanted []*socket.Socket // sockets from the descriptor store that no option names
	store    *fdstore
}

// New returns Sockets that are not open yet. inherited are the descriptors that the superdaemon
// inherited. report is called with log lines.
func New(o Options, inherited []int, report func(line string)) *Sockets {
	return &Sockets{options: o, report: report, inherited: inherited, finder: orphan.NewFinder(""), store: newFDStore(os.Getenv, report)}
}

// Open opens a socket for every port, whose host is an address, and for every path. It takes over
// the socket of the service manager or of the workers of a killed superdaemon that is bound to the
// address, or binds a new one. Other sockets of the service manager are passed on. pause is called to
// wait, which ends Open if it returns an error.
func (s *Sockets) Open(ports []portspec.Port, detached bool, pause func(time.Duration) error) error {
	s.finder = orphan.NewFinder(s.options.StatusFile)
	s.finder.Pause = pause
	process.Reserve(len(s.options.Ports) + len(s.options.Paths))
	offered := s.activated(detached)
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
		if err := s.addPort(p, given); err != nil {
			return err
		}
	}
	for _, path := range s.options.Paths {
		given := s.takeStored(take(func(o *socket.Socket) bool { return o.IsPath(path) }), path, path)
		if err := s.addPath(path, given); err != nil {
			return err
		}
	}
	s.list = append(s.list, s.dropStored(offered)...)
	for _, o := range given {
		s.finder.Adopt(o.FD, o.Key)
	}
	return s.fit()
}

// fit makes sure that all these descriptors can be passed to a worker, or returns an error.
func (s *Sockets) fit() error {
	files := s.ForWorker(map[string]string{})
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

func (s *Sockets) addPort(p portspec.Port, given *socket.Socket) error {
	if limit := process.DescriptorLimit(); p.FD >= limit {
		return fmt.Errorf("--port=%s=%d: descriptor exceeds RLIMIT_NOFILE (%d)", p.Key, p.FD, limit)
	}
	var err error
	switch {
	case p.UDP && s.options.SteerUDP:
		given, err = s.openSteered(p, given)
	case given == nil:
		given, err = s.openPort(p)
	}
	if err != nil {
		return err
	}
	given.Key, given.RequestedFD = p.Key, p.FD
	if p.FD >= 0 {
		s.report(lines.Duplicated(p.FD))
	}
	s.list = append(s.list, given)
	return nil
}

// openPort binds a port, or takes over its socket from a worker that was left. For UDP it looks for
// a worker first, since the system lets two datagram sockets have the same address.
func (s *Sockets) openPort(p portspec.Port) (*socket.Socket, error) {
	if p.UDP {
		if taken, err := s.takeOverPort(p); taken != nil || errors.Is(err, ErrStopped) {
			return taken, err
		}
	}
	for attempt := 1; ; attempt++ {
		opened, err := socket.OpenPort(p, s.options.Backlog)
		if !errors.Is(err, unix.EADDRINUSE) {
			return opened, err
		}
		taken, why := s.takeOverPort(p)
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

func (s *Sockets) takeOverPort(p portspec.Port) (*socket.Socket, error) {
	a, err := orphan.PortAddress(p)
	if err != nil || p.Port == 0 {
		return nil, orphan.ErrNone
	}
	return s.takeOver(a)
}

// openPath listens on a path, or takes over its socket from a worker that was left.
func (s *Sockets) openPath(path string) (*socket.Socket, error) {
	taken, err := s.takeOver(orphan.PathAddress(path))
	if taken != nil || errors.Is(err, ErrStopped) {
		return taken, err
	}
	if forbidden := (*orphan.ForbiddenError)(nil); errors.As(err, &forbidden) && forbidden.PID != 0 {
		s.report(lines.NotTakenOver(path, err))
	}
	access, err := s.options.Access(socket.DefaultAccess)
	if err != nil {
		return nil, err
	}
	return socket.OpenPath(path, s.options.Backlog, access, func(path string) { s.report(lines.RemovingSocket(path)) })
}

// takeOver takes over a socket from a worker that was left.
func (s *Sockets) takeOver(a orphan.Address) (*socket.Socket, error) {
	got, err := s.finder.Take(a)
	if err != nil {
		return nil, err
	}
	taken := socket.TakeOver(got.FD, a.Key, a.Path, s.options.Backlog)
	s.taken = append(s.taken, taken)
	s.report(lines.TakenOver(a.Key, got.From))
	return taken, nil
}

// LeftWorkers returns the workers that another superdaemon left: those that hold one of the
// sockets, and those that the status file names. From now on this superdaemon owns the sockets that
// were taken over.
func (s *Sockets) LeftWorkers() []orphan.Worker {
	for _, o := range s.taken {
		if err := s.setAccess(o); err != nil {
			s.report(err.Error())
		}
	}
	s.taken = nil
	s.updateStore()
	if others := s.finder.AdoptNamed(); len(others) > 0 {
		s.report(lines.Left(others))
	}
	return s.finder.Workers()
}

// setAccess changes what the options set of the access to a socket that was taken over.
func (s *Sockets) setAccess(o *socket.Socket) error {
	if o.Path == "" {
		return nil
	}
	present, err := o.Access()
	if err != nil {
		return err
	}
	access, err := s.options.Access(present)
	if err != nil {
		return err
	}
	return o.SetAccess(access)
}

// Abandon gives up the sockets that were taken over, because the start has failed: their files
// belong to the workers.
func (s *Sockets) Abandon() {
	for _, o := range s.taken {
		o.Path = ""
	}
	s.finder.Close()
}

func (s *Sockets) addPath(path string, given *socket.Socket) error {
	if given == nil {
		for _, other := range s.list {
			if other.Same(path) {
				return fmt.Errorf("listen on %q: the same address twice", path)
			}
		}
		var err error
		if given, err = s.openPath(path); err != nil {
			return err
		}
	}
	s.list = append(s.list, given)
	return nil
}

// activated returns the sockets that the service manager passed by sd_listen_fds(3) to this
// process, or to the one that detached it.
func (s *Sockets) activated(detached bool) []*socket.Socket {
	value := os.Getenv("LISTEN_FDS")
	count, err := strconv.Atoi(value)
	if err != nil || count <= 0 {
		if value != "" {
			s.report(lines.InvalidListenFDs(value))
		}
		return nil
	}
	pid := os.Getenv("LISTEN_PID")
	if pid != strconv.Itoa(os.Getpid()) && (!detached || pid != strconv.Itoa(os.Getppid())) {
		return nil
	}
	list, errs := socket.Inherit(count, s.inherited, strings.Split(os.Getenv("LISTEN_FDNAMES"), ":"))
	for _, err := range errs {
		s.report(err.Error())
	}
	s.inherited = slices.DeleteFunc(s.inherited, func(fd int) bool {
		return slices.ContainsFunc(list, func(s *socket.Socket) bool { return s.FD == fd })
	})
	return list
}

// Mend makes sockets listen again on which a worker has called shutdown(2). It reports whether it
// replaced one by a new socket, which the workers do not have.
func (s *Sockets) Mend() (replaced bool) {
	warning := ""
	for _, o := range s.list {
		old := o.FD
		switch broken, err := o.Mend(s.options.Backlog); {
		case err != nil:
			warning = err.Error()
		case broken:
			s.report(lines.Mended(o.Key))
			replaced = replaced || o.FD != old
			if o.FD != old && o.Stored {
				s.unwanted = append(s.unwanted, &socket.Socket{Key: o.Key, FD: -1})
				s.updateStore()
			}
		}
	}
	if warning != "" && warning != s.warned {
		s.report(warning)
	}
	s.warned = warning
	return replaced
}

// ForWorker returns the descriptors of a worker by their numbers in it, and adds the variables that
// name its sockets to vars.
func (s *Sockets) ForWorker(vars map[string]string) []uintptr {
	var files []uintptr
	var numbers []int
	if s.options.SocketActivation {
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

// Listening returns the stream sockets.
func (s *Sockets) Listening() (list []accepting.Socket) {
	for _, o := range s.list {
		var st unix.Stat_t
		if o.Listening && unix.Fstat(o.FD, &st) == nil {
			list = append(list, accepting.Socket{Key: o.Key, Inode: st.Ino})
		}
	}
	return list
}

func (s *Sockets) Close() {
	for _, o := range s.list {
		o.Close()
	}
	for _, fd := range spares(s.steered, s.list) {
		unix.Close(fd)
	}
}

// SocketState is what crosses an upgrade.
type SocketState struct {
	Sockets   []*socket.Socket `json:"sockets"`
	Inherited []int            `json:"inherited"`
	Steered   []*steer.Group   `json:"steered,omitempty"` // in the order of the steered sockets
}

// Descriptors returns those that stay open across an upgrade.
func (s SocketState) Descriptors() (fds []int) {
	for _, o := range s.Sockets {
		fds = append(fds, o.FD)
	}
	return append(fds, spares(s.Steered, s.Sockets)...)
}

// Check returns an error if there can be no such sockets in a process with this limit of
// descriptors.
func (s SocketState) Check(limit int) error {
	for _, o := range s.Sockets {
		if o == nil || o.RequestedFD < -1 || o.RequestedFD >= limit {
			return fmt.Errorf("%+v is not a socket", o)
		}
	}
	for _, g := range s.Steered {
		if g == nil || !g.Valid() || socketOf(g, s.Sockets) == nil {
			return fmt.Errorf("%+v are not the sockets of a UDP port", g)
		}
	}
	return nil
}

// State returns the present state.
func (s *Sockets) State() SocketState { return SocketState{s.list, s.inherited, s.steered} }

// Resume continues from the state before an upgrade.
func (s *Sockets) Resume(state SocketState) {
	s.list, s.inherited, s.steered = state.Sockets, state.Inherited, state.Steered
}
