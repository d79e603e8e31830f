package accepting

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/procfs"
)

// patience is for how long it must have been impossible to see a process of a worker until that is
// reported: one that changes its user between fork and execve is visible again.
const patience = 500 * time.Millisecond

// Watch looks at a worker until it waits for connections on each socket, cannot be seen or stop is
// closed: its parent knows better than /proc when it has ended. It calls report each time that there
// is something new; after one without Missing it returns. It waits on a socket if it, or a process
// below it, has this socket, and a thread of it is blocked in accept, poll or select for it, or has it
// in an epoll instance, or holds a connection that was accepted from it. Not seen: accept by io_uring.
func Watch(stop <-chan struct{}, pid int, sockets []Socket, report func(Report)) {
	v := newView(pid, sockets)
	began, missing := time.Now(), len(sockets)+1
	var unseenSince time.Time
	for {
		at := time.Now()
		unseen := v.look()
		switch {
		case len(v.missing) == 0:
			report(Report{})
			return
		case unseen == nil:
			unseenSince = time.Time{}
		case unseenSince.IsZero():
			unseenSince = at
		case at.Sub(unseenSince) >= patience:
			report(Report{Unseen: unseen.Error()})
			return
		}
		if len(v.missing) < missing {
			missing = len(v.missing)
			report(Report{Missing: v.missingKeys()})
		}
		select {
		case <-stop:
			return
		case <-time.After(pause(at.Sub(began), time.Since(at))):
		}
	}
}

// A view is what was seen of a worker until now.
type view struct {
	pid         int
	sockets     []Socket
	missing     map[uint64]bool // sockets on which it was not seen to wait, by inode
	known       map[uint64]bool // other sockets that are not connections to be looked up
	connections map[uint64]bool // those that are, in this look
	pins        []int           // descriptors of some of them: they stay open while they are looked up
	unseen      error           // in this look
}

func newView(pid int, sockets []Socket) *view {
	v := &view{pid: pid, sockets: sockets, missing: map[uint64]bool{}, known: map[uint64]bool{}, connections: map[uint64]bool{}}
	inherited, _ := v.descriptors("/proc/self") // the worker may have inherited connections
	for _, inode := range inherited {
		v.known[inode] = true
	}
	for _, s := range sockets {
		v.missing[s.Inode] = true
	}
	return v
}

// look looks at the worker once. unseen is why something of it could not be seen.
func (v *view) look() (unseen error) {
	v.unseen = nil
	clear(v.connections)
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return errors.New("/proc is not that of this PID namespace")
	}
	if !knownArch() {
		return fmt.Errorf("the system calls of %s are not known", runtime.GOARCH)
	}
	v.tree(v.pid)
	if len(v.connections) > 0 {
		v.findAccepted()
	}
	return v.unseen
}

// hasEnded reports whether a process has ended, or is about to.
func hasEnded(pid int) bool {
	stat, visible := process.ReadStat(pid)
	return visible && stat.Exiting || !visible && syscall.Kill(pid, 0) == syscall.ESRCH
}

func (v *view) missingKeys() (keys []string) {
	for _, s := range v.sockets {
		if v.missing[s.Inode] {
			keys = append(keys, s.Key)
		}
	}
	return slices.Compact(keys)
}

// refused records that something of a process could not be read, unless it has ended.
func (v *view) refused(pid int, err error) {
	switch _, visible := process.ReadStat(pid); {
	case hasEnded(pid):
	case !visible:
		v.unseen = fmt.Errorf("/proc does not show process %d (hidepid)", pid)
	case errors.Is(err, fs.ErrPermission):
		v.unseen = fmt.Errorf("%w (requires the same user, or CAP_SYS_PTRACE)", err)
	default:
		v.unseen = err
	}
}

// tree looks at a process and those below it.
func (v *view) tree(pid int) {
	dir := "/proc/" + strconv.Itoa(pid)
	threads, err := procfs.Names(dir + "/task")
	if err != nil {
		v.refused(pid, err)
		return
	}
	held, err := v.descriptors(dir)
	if err != nil {
		v.refused(pid, err)
	}
	given := false
	for fd, inode := range held {
		given = given || v.missing[inode]
		if !v.known[inode] && !v.given(inode) {
			v.connections[v.pin(pid, fd, inode)] = true
		}
	}
	for _, thread := range threads {
		if given {
			v.thread(pid, thread, held)
		}
		for _, word := range strings.Fields(v.read(pid, thread, "children")) {
			if child, err := strconv.Atoi(word); err == nil {
				v.tree(child)
			}
		}
	}
}

// read reads a file of a thread, which may end at any time.
func (v *view) read(pid int, thread, name string) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/%s", pid, thread, name))
	if err != nil && (errors.Is(err, fs.ErrPermission) || thread == strconv.Itoa(pid)) {
		v.refused(pid, err)
	}
	return string(text)
}

func (v *view) given(inode uint64) bool {
	for _, s := range v.sockets {
		if s.Inode == inode {
			return true
		}
	}
	return false
}

// descriptors returns the sockets that a process holds, by the descriptor, and looks at its epoll
// instances.
func (v *view) descriptors(dir string) (held map[int]uint64, err error) {
	held = map[int]uint64{}
	fds, err := procfs.Names(dir + "/fd")
	for _, name := range fds {
		link, linkErr := os.Readlink(dir + "/fd/" + name)
		if errors.Is(linkErr, fs.ErrPermission) {
			return held, linkErr
		}
		if link == "anon_inode:[eventpoll]" {
			text, _ := os.ReadFile(dir + "/fdinfo/" + name)
			for _, inode := range parseEpoll(string(text)) {
				delete(v.missing, inode)
			}
		}
		if inode, ok := parseSocket(link); ok {
			fd, _ := strconv.Atoi(name)
			held[fd] = inode
		}
	}
	return held, err
}

// thread looks at what a thread waits for.
func (v *view) thread(pid int, thread string, held map[int]uint64) {
	c, ok := parseCall(v.read(pid, thread, "syscall"))
	if !ok {
		return
	}
	a, _ := c.abi(runtime.GOARCH)
	for _, fd := range a.waitsFor(c, func(address uint64, size int) []byte { return readMemory(pid, address, size) }) {
		delete(v.missing, held[fd])
	}
}

// pin copies a connection, so that it stays there until it is looked up: a fast server has closed it
// by then. It returns the inode of what the descriptor is now. If the kernel does not permit the
// copy, it may be too late.
func (v *view) pin(pid, fd int, inode uint64) uint64 {
	const most = 16
	if len(v.pins) == most {
		return inode
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return inode
	}
	defer unix.Close(pidfd)
	var st unix.Stat_t
	if fd, err = unix.PidfdGetfd(pidfd, fd, 0); err != nil {
		return inode
	}
	v.pins = append(v.pins, fd)
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return inode
	}
	return st.Ino
}

// findAccepted finds out whether one of the connections was accepted from a socket that is missing.
func (v *view) findAccepted() {
	for _, table := range []string{"tcp", "tcp6", "unix"} {
		if len(v.missing) == 0 {
			break
		}
		text, _ := os.ReadFile("/proc/self/net/" + table)
		listening := func(inode uint64) bool { return v.missing[inode] }
		for _, inode := range accepted(string(text), listening, v.connections) {
			delete(v.missing, inode)
		}
	}
	for inode := range v.connections {
		v.known[inode] = true
	}
	for _, fd := range v.pins {
		unix.Close(fd)
	}
	v.pins = nil
}

func readMemory(pid int, address uint64, size int) []byte {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, size)
	n, _ := f.ReadAt(b, int64(address))
	return b[:n]
}
