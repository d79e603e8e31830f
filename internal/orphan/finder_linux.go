package orphan

import (
	"errors"
	"net/netip"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	proc "github.com/start-server/start-server/internal/process"
)

// A process that was killed takes a moment to end, and one that was just started takes a moment to
// execute its program.
const (
	settleTime  = 10 * time.Second       // to wait for such processes
	unseenTime  = 100 * time.Millisecond // to look for a process that holds the socket
	settlePause = 10 * time.Millisecond
	youth       = time.Second // the age below which a process may not have executed its program yet
)

// errUnsettled means that processes are just ending or starting: try again.
var errUnsettled = errors.New("processes that may hold it are still starting or ending")

// Take copies the socket that is bound to the address from a worker of a superdaemon that is gone.
// Workers then includes every worker that holds it. An error is ErrNone, ErrUnseen, a
// *ForbiddenError, a *DetachedError, an error of Pause, or means that processes keep starting or
// ending for too long.
//
// A process that exits is in /proc until it has closed its sockets. So if no process is found and
// none is exiting, the socket was closed meanwhile, which another attempt shows, or is held
// elsewhere.
func (f *Finder) Take(a Address) (Taken, error) {
	taken, err := f.TakeAll(a)
	if err != nil {
		return Taken{}, err
	}
	for _, t := range taken[1:] {
		unix.Close(t.FD)
	}
	return taken[0], nil
}

// TakeAll is like Take, for every socket that is bound to the address.
func (f *Finder) TakeAll(a Address) ([]Taken, error) {
	end, unseenEnd := time.Now().Add(settleTime), time.Time{}
	for {
		taken, err := f.take(a)
		now := time.Now()
		switch {
		case err != errUnsettled && err != ErrUnseen:
			return taken, err
		case err == ErrUnseen && unseenEnd.IsZero():
			unseenEnd = now.Add(unseenTime)
		case err == ErrUnseen && now.After(unseenEnd):
			return nil, ErrUnseen
		case now.After(end):
			return nil, err
		}
		if err := f.Pause(settlePause); err != nil {
			return nil, err
		}
	}
}

func (f *Finder) take(a Address) (taken []Taken, err error) {
	inodes := a.inodes()
	if len(inodes) == 0 {
		return nil, ErrNone
	}
	all := takeSnapshot()
	var workers []Worker
	defer func() {
		if err == nil {
			f.keep(workers)
			return
		}
		closeAll(workers)
		for _, t := range taken {
			unix.Close(t.FD)
		}
	}()
	for _, inode := range inodes {
		found, err := f.holders(all, inode, a)
		workers = append(workers, found...)
		if err != nil {
			return taken, err
		}
		copied, err := all.copy(inode, a)
		var errno unix.Errno
		switch {
		case errors.As(err, &errno):
			return taken, &ForbiddenError{PID: found[0].PID, Err: err}
		case err != nil:
			return taken, err
		}
		for _, w := range found {
			copied.Generations = append(copied.Generations, w.Generation)
		}
		taken = append(taken, copied)
	}
	return taken, nil
}

// holders returns the workers that hold the socket. It is an error if any other process holds it,
// or only jobs that workers have detached.
func (f *Finder) holders(all snapshot, inode uint64, a Address) ([]Worker, error) {
	tops := map[int]*process{}
	hidden, closing := false, false
	for _, p := range all {
		hidden = hidden || p.hidden && !p.exiting
		closing = closing || p.closing
		if p.holds(inode) {
			top := all.top(p, inode, f.names)
			tops[top.pid] = top
		}
	}
	var workers []Worker
	var detached *DetachedError
	for _, p := range tops {
		w, err := f.identify(all, p, a)
		switch {
		case errors.As(err, &detached): // it does not keep the others from being taken over
		case err != nil:
			closeAll(workers)
			return nil, err
		default:
			workers = append(workers, w)
		}
	}
	switch {
	case len(workers) > 0:
		return workers, nil
	case detached != nil:
		return nil, detached
	case closing:
		return nil, errUnsettled
	case hidden:
		return nil, &ForbiddenError{Err: unix.EACCES}
	}
	return nil, ErrUnseen
}

// identify returns the process as a worker, if it is one.
func (f *Finder) identify(all snapshot, p *process, a Address) (Worker, error) {
	if proc.Ending(p.pid) {
		return Worker{}, errUnsettled
	}
	if all.isAncestor(p.pid) {
		return Worker{}, ErrNone
	}
	w := Worker{Process: Process{PID: p.pid, Descriptor: -1}}
	if p.pid == 1 || p.isSuperdaemon() || !all.orphaned(p) || !f.started(p, a, &w) {
		if p.age() < youth {
			return w, errUnsettled
		}
		return w, ErrNone
	}
	if p.leads && !f.names(p) {
		return w, &DetachedError{p.pid}
	}
	err := f.open(p, &w)
	return w, err
}

// started reports whether a start_server has started the process, according to its environment or
// the status file, and sets the generation of w.
func (f *Finder) started(p *process, a Address, w *Worker) bool {
	port, generation, _ := p.environ()
	w.Generation = generation
	named := f.names(p)
	if named {
		w.Generation = f.status.generations[p.pid]
	}
	return named || port != "" && a.namedBy(port)
}

// names reports whether the status file names the process: the process is older than the file, and
// its environment, unless that is overwritten, has the same generation.
func (f *Finder) names(p *process) bool {
	generation, ok := f.status.generations[p.pid]
	if !ok || p.pid == 1 || p.startedAt().After(f.status.written.Add(time.Second)) {
		return false
	}
	_, own, intact := p.environ()
	return !intact || own == generation
}

// open opens a pidfd of the process. It checks that the process is still the one that was examined,
// and that this one may send signals to it.
func (f *Finder) open(p *process, w *Worker) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	switch err {
	case nil:
	case unix.ESRCH:
		return errUnsettled
	default:
		return &ForbiddenError{PID: p.pid, Err: os.NewSyscallError("pidfd_open", err)}
	}
	again := look(p.pid)
	if again == nil || again.started != p.started || again.exiting {
		err = errUnsettled
	} else if err = unix.PidfdSendSignal(fd, 0, nil, 0); err == unix.ESRCH {
		err = errUnsettled
	} else if err != nil {
		err = &ForbiddenError{PID: p.pid, Err: os.NewSyscallError("pidfd_send_signal", err)}
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	w.Descriptor, w.StopSent = fd, stopSent(p.pid)
	return nil
}

// copy copies a descriptor of the socket from one of the processes that hold it.
func (all snapshot) copy(inode uint64, a Address) (Taken, error) {
	err := errUnsettled
	for _, p := range all {
		fd, ok := p.sockets[inode]
		if !ok {
			continue
		}
		copied, failed := copyFrom(p.pid, fd)
		switch {
		case failed == nil && isSocket(copied, inode, a):
			if err := checkOwner(copied); err != nil {
				unix.Close(copied)
				return Taken{}, &ForbiddenError{PID: p.pid, Err: err}
			}
			if !claim(copied) {
				unix.Close(copied)
				return Taken{}, errUnsettled
			}
			return Taken{FD: copied, From: p.pid}, nil
		case failed == nil:
			unix.Close(copied)
		case failed != unix.ESRCH && failed != unix.EBADF:
			err = os.NewSyscallError("pidfd_getfd", failed)
		}
	}
	return Taken{}, err
}

// claim locks the socket for this process, as long as it has the copy. It reports false if another
// superdaemon, which starts at the same time, has locked it: that one is going to be found among the
// processes that hold the socket. No other process can lock it: that takes a descriptor of the socket.
func claim(fd int) bool {
	err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	return err != unix.EAGAIN && err != unix.EACCES
}

func copyFrom(pid, fd int) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, fd, 0)
}

// isSocket reports whether a copied descriptor is one of the socket: the process may have changed
// its descriptors meanwhile.
func isSocket(fd int, inode uint64, a Address) bool {
	var st unix.Stat_t
	addr, err := unix.Getsockname(fd)
	if err != nil || unix.Fstat(fd, &st) != nil || st.Ino != inode {
		return false
	}
	kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	listens, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if a.UDP && kind != unix.SOCK_DGRAM || !a.UDP && (kind != unix.SOCK_STREAM || listens == 0) {
		return false
	}
	if port, ok := addrPort(addr); ok {
		return slices.Contains(a.Ports, port)
	}
	file, ok := addr.(*unix.SockaddrUnix)
	return ok && a.Path != "" && path.Base(file.Name) == path.Base(a.Path)
}

// IsAt reports whether a socket file is that of the socket, which listens.
func IsAt(file string, fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && slices.Contains(listeningAt(file), st.Ino)
}

// checkOwner returns an error if a user other than this one and root has created the socket: any
// process can bind an address first and give itself the environment of a worker. It would keep its
// descriptor, and accept connections beside the new workers.
func checkOwner(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return ownerError(st.Uid)
	}
	return nil
}

func addrPort(addr unix.Sockaddr) (netip.AddrPort, bool) {
	switch a := addr.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), true
	}
	return netip.AddrPort{}, false
}

// Adopt finds the workers that hold a socket which this process has received from the service
// manager, and whose superdaemon is gone. Workers then includes them.
func (f *Finder) Adopt(fd int, key string) {
	a := Address{Key: key}
	addr, err := unix.Getsockname(fd)
	var st unix.Stat_t
	if err != nil || unix.Fstat(fd, &st) != nil {
		return
	}
	if port, ok := addrPort(addr); ok {
		a.Ports = []netip.AddrPort{port}
	} else if file, ok := addr.(*unix.SockaddrUnix); ok {
		a.Path = file.Name
	}
	if f.near == nil {
		f.near = relatives()
	}
	for _, p := range f.near {
		if !f.started(p, a, &Worker{}) { // most processes end here: their descriptors are many
			continue
		}
		p.sockets, p.hidden = readSockets(procFile(p.pid, "fd"))
		if !p.holds(st.Ino) {
			continue
		}
		if w, err := f.identify(f.near, p, a); err == nil {
			f.keep([]Worker{w})
		}
	}
}

// AdoptNamed finds the workers that are named by the status file and hold none of the sockets.
// Workers then includes them, unless this process may not send signals to them: AdoptNamed returns
// the pids of those. If any process that the file names still has a superdaemon, it adds none.
func (f *Finder) AdoptNamed() (others []int) {
	var named []*process
	for pid := range f.status.generations {
		if p := look(pid); p != nil && !p.exiting && !f.has(pid) && f.names(p) {
			named = append(named, p)
		}
	}
	if len(named) == 0 {
		return nil
	}
	all := takeSnapshot()
	var workers []Worker
	for _, p := range named {
		if q := all[p.pid]; q != nil {
			p.sockets = q.sockets
		}
		if !all.adoptedByInit(p) || all.isAncestor(p.pid) || all.hasSuperdaemon(p) {
			closeAll(workers)
			return nil
		}
		w := Worker{Process: Process{PID: p.pid}, Generation: f.status.generations[p.pid]}
		switch err := f.open(p, &w); {
		case err == nil:
			workers = append(workers, w)
		case err != errUnsettled:
			others = append(others, p.pid)
		}
	}
	f.keep(workers)
	slices.Sort(others)
	return others
}

// adoptedByInit reports whether the parent of a process is gone, and its present parent is the
// process that adopts orphans.
func (all snapshot) adoptedByInit(p *process) bool {
	parent := all[p.parent]
	return parent == nil || (parent.pid == 1 || all.isAncestor(parent.pid)) && !parent.isSuperdaemon()
}

// hasSuperdaemon reports whether a superdaemon, which may have adopted the process, holds one of
// its sockets.
func (all snapshot) hasSuperdaemon(p *process) bool {
	for _, other := range all {
		for inode := range p.sockets {
			if other.pid != p.pid && other.holds(inode) && other.isSuperdaemon() {
				return true
			}
		}
	}
	return false
}

func (f *Finder) has(pid int) bool {
	_, ok := f.workers[pid]
	return ok
}

func (f *Finder) keep(workers []Worker) {
	for _, w := range workers {
		if f.has(w.PID) {
			unix.Close(w.Descriptor)
			continue
		}
		f.workers[w.PID] = &w
	}
}

func closeAll(workers []Worker) {
	for _, w := range workers {
		unix.Close(w.Descriptor)
	}
}

// Close closes the pidfds of the workers that were found.
func (f *Finder) Close() { closeAll(f.Workers()) }

// Signal sends a signal to the process.
func (p Process) Signal(sig syscall.Signal) error {
	return unix.PidfdSendSignal(p.Descriptor, sig, nil, 0)
}

// stopMark is the limit of file locks that MarkStopSent sets. Linux has not enforced that limit
// since 2.4.25.
const stopMark = 'S'<<24 | 'T'<<16 | 'O'<<8 | 'P'

// MarkStopSent records in the worker itself, if the system allows, that a signal to stop was sent
// to it. If this superdaemon is killed, the next one does not send another one, which would make
// many servers drop their clients.
func MarkStopSent(pid int) {
	var limit unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_LOCKS, nil, &limit) == nil {
		limit.Cur = stopMark
		_ = unix.Prlimit(pid, unix.RLIMIT_LOCKS, &limit, nil)
	}
}

func stopSent(pid int) bool {
	var limit unix.Rlimit
	return unix.Prlimit(pid, unix.RLIMIT_LOCKS, nil, &limit) == nil && limit.Cur == stopMark
}

// Open returns the process that has this pid now.
func Open(pid int) (Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	return Process{PID: pid, Descriptor: fd}, os.NewSyscallError("pidfd_open", err)
}
