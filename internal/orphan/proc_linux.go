package orphan

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	proc "github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/procfs"
)

// A process is the description of a process in /proc.
type process struct {
	pid     int
	parent  int
	started uint64         // clock ticks after boot
	leads   bool           // a session of its own
	thread  int            // one that runs; 0 if it is exiting
	exiting bool           // a zombie, or on its way to be one
	closing bool           // exiting, and may still hold descriptors, which /proc does not show any more
	hidden  bool           // its descriptors cannot be read
	sockets map[uint64]int // its descriptors by the inode of the socket
}

// ticks is how many clock ticks there are in a second, on every Linux that Go runs on (USER_HZ).
const ticks = 100

// look reads what /proc shows of a process. It returns nil if the process is gone.
func look(pid int) *process {
	stat, ok := proc.ReadStat(pid)
	if !ok {
		return nil
	}
	return &process{pid: pid, parent: stat.Parent, started: stat.Started, leads: stat.Session == pid,
		thread: stat.Thread, exiting: stat.Exiting, closing: stat.Exiting && !stat.Ended}
}

func procFile(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// readSockets reads which sockets a process holds, from its fd directory. hidden means that its descriptors cannot be
// read.
func readSockets(directory string) (sockets map[uint64]int, hidden bool) {
	sockets = map[uint64]int{}
	names, err := procfs.Names(directory)
	hidden = err != nil && len(names) == 0
	var buf [64]byte
	for _, name := range names {
		n, err := unix.Readlink(directory+"/"+name, buf[:])
		if err != nil {
			continue
		}
		inode, ok := strings.CutPrefix(string(buf[:n]), "socket:[")
		number, err := strconv.ParseUint(strings.TrimSuffix(inode, "]"), 10, 64)
		fd, err2 := strconv.Atoi(name)
		if ok && err == nil && err2 == nil {
			sockets[number] = fd
		}
	}
	return sockets, hidden
}

// startedAt returns when the process was started.
func (p *process) startedAt() time.Time {
	return time.Now().Add(-p.age())
}

func (p *process) age() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano()) - time.Duration(p.started)*time.Second/ticks
}

// environ returns the values of two variables, and whether the environment is intact: some programs
// write their title over it.
func (p *process) environ() (port string, generation int, intact bool) {
	text, _ := os.ReadFile(procFile(p.pid, "environ"))
	for word := range strings.SplitSeq(string(text), "\x00") {
		name, value, ok := strings.Cut(word, "=")
		switch {
		case ok && name == "SERVER_STARTER_PORT":
			port, intact = value, true
		case ok && name == "SERVER_STARTER_GENERATION":
			generation, _ = strconv.Atoi(value)
			intact = true
		case ok && name == "PATH":
			intact = true
		}
	}
	return port, generation, intact
}

// isSuperdaemon reports whether the process runs a start_server: a program or a script of that
// name, or a program that was started with the same arguments as this one.
func (p *process) isSuperdaemon() bool {
	text, _ := os.ReadFile(procFile(p.pid, "cmdline"))
	args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	if slices.Equal(args, os.Args) {
		return true
	}
	return slices.ContainsFunc(args[:min(len(args), 2)], func(word string) bool { return path.Base(word) == "start_server" })
}

// A snapshot holds the processes of the system by pid.
type snapshot map[int]*process

// takeSnapshot reads /proc. It leaves out this process.
func takeSnapshot() snapshot {
	all := snapshot{}
	names, _ := procfs.Names("/proc")
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		// Its state comes last: if it was closing its descriptors meanwhile, that shows it.
		sockets, hidden := readSockets(procFile(pid, "fd"))
		if p := look(pid); p != nil {
			if p.thread != pid && !p.exiting { // without its first thread, the process itself shows none
				sockets, hidden = readSockets(procFile(pid, fmt.Sprintf("task/%d/fd", p.thread)))
			}
			p.sockets, p.hidden = sockets, hidden
			all[pid] = p
		}
	}
	return all
}

// relatives returns the ancestors of this process, process 1, and the children of those that are no
// superdaemon, without their sockets: a process whose parent has ended is a child of one of them.
func relatives() snapshot {
	all := snapshot{}
	var parents []int
	for pid := os.Getppid(); pid > 0 && all[pid] == nil; pid = all[pid].parent {
		p := look(pid)
		if p == nil {
			break
		}
		all[pid] = p
		parents = append(parents, pid)
	}
	if all[1] == nil {
		parents = append(parents, 1)
	}
	for _, parent := range parents {
		if (&process{pid: parent}).isSuperdaemon() {
			continue
		}
		for _, pid := range proc.Children(parent) {
			if p := look(pid); p != nil && all[pid] == nil && pid != os.Getpid() {
				all[pid] = p
			}
		}
	}
	return all
}

// isAncestor reports whether the process is an ancestor of this one.
func (all snapshot) isAncestor(pid int) bool {
	for p := all[os.Getppid()]; p != nil; p = all[p.parent] {
		if p.pid == pid {
			return true
		}
	}
	return false
}

// top returns the process or the highest of its ancestors that a superdaemon may have started: the
// parent of that one neither holds the socket nor is named by the status file.
func (all snapshot) top(p *process, inode uint64, named func(*process) bool) *process {
	for range len(all) {
		parent := all[p.parent]
		if parent == nil || !parent.holds(inode) && !named(parent) {
			return p
		}
		p = parent
	}
	return p
}

func (p *process) holds(inode uint64) bool {
	_, ok := p.sockets[inode]
	return ok
}

// orphaned reports whether the parent of a process cannot be a superdaemon that holds the socket. A
// parent whose descriptors are hidden may be one, unless it is a process that adopts orphans:
// process 1, or an ancestor of this process.
func (all snapshot) orphaned(p *process) bool {
	parent := all[p.parent]
	if parent == nil || !parent.hidden {
		return true
	}
	return (parent.pid == 1 || all.isAncestor(parent.pid)) && !parent.isSuperdaemon()
}
