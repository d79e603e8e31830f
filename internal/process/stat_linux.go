package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/procfs"
)

// Stat is what proc_pid_stat(5) shows of a process.
type Stat struct {
	Parent  int    // pid
	Session int    // the pid of its leader
	Started uint64 // hundredths of a second after boot (USER_HZ is 100 on every system that Go runs on)
	Thread  int    // one that still runs: the first, unless that has ended (pthread_exit in main); 0 for none
	Exiting bool   // a zombie, or about to become one: no thread runs any more
	Ended   bool   // a zombie whose threads have all ended: it holds no descriptors any more
}

// Indices of the fields that follow the name of a process in its stat file.
const (
	statState   = 0
	statParent  = 1
	statSession = 3
	statFlags   = 6
	statThreads = 17
	statStarted = 19
)

// ReadStat reads the stat file of a process. It reports false if there is no such process, or /proc
// does not show it.
func ReadStat(pid int) (s Stat, ok bool) {
	f := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	if f == nil {
		return Stat{}, false
	}
	s.Ended = f[statState] == "X" || f[statState] == "Z" && (f[statThreads] == "0" || f[statThreads] == "1")
	switch {
	case !isExiting(f):
		s.Thread = pid
	case !s.Ended:
		s.Thread = runningThread(pid)
	}
	s.Exiting = s.Thread == 0
	s.Parent, _ = strconv.Atoi(f[statParent])
	s.Session, _ = strconv.Atoi(f[statSession])
	started, err := strconv.ParseUint(f[statStarted], 10, 64)
	s.Started = started
	return s, err == nil
}

// statFields returns the fields of a stat file that follow the name, which may hold any byte, or nil.
func statFields(file string) []string {
	text, err := os.ReadFile(file)
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if err != nil || len(f) <= statStarted {
		return nil
	}
	return f
}

// isExiting reports whether a thread has ended, or is about to.
func isExiting(fields []string) bool {
	const exiting = 0x4 // PF_EXITING
	flags, _ := strconv.ParseUint(fields[statFlags], 10, 64)
	return fields[statState] == "Z" || fields[statState] == "X" || flags&exiting != 0
}

// runningThread returns a thread that is not exiting, or 0.
func runningThread(pid int) int {
	for _, thread := range threads(pid) {
		if f := statFields(fmt.Sprintf("/proc/%d/task/%d/stat", pid, thread)); f != nil && !isExiting(f) {
			return thread
		}
	}
	return 0
}

// threads returns the threads of a process.
func threads(pid int) (list []int) {
	names, _ := procfs.Names(fmt.Sprintf("/proc/%d/task", pid))
	for _, name := range names {
		if thread, err := strconv.Atoi(name); err == nil {
			list = append(list, thread)
		}
	}
	return list
}

// Ending reports whether a process is exiting, or was sent KILL. It may hold its descriptors and
// locks for some time yet.
func Ending(pid int) bool {
	s, ok := ReadStat(pid)
	return ok && (s.Exiting || killPending(pid))
}

func killPending(pid int) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if name == "SigPnd" || name == "ShdPnd" {
			mask, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if mask&(1<<(unix.SIGKILL-1)) != 0 {
				return true
			}
		}
	}
	return false
}
