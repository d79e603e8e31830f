package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Stat is what proc_pid_stat(5) shows of a process.
type Stat struct {
	Parent  int    // pid
	Session int    // the pid of its leader
	Started uint64 // hundredths of a second after boot (USER_HZ is 100 on every system that Go runs on)
	Exiting bool   // a zombie, or about to become one
	Ended   bool   // a zombie whose threads have all ended: it holds no descriptors any more
}

// ReadStat reads the stat file of a process. It reports false if there is no such process, or /proc
// does not show it.
func ReadStat(pid int) (s Stat, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Stat{}, false
	}
	// PID (NAME) STATE PPID ...; the name may hold any byte.
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const state, parent, session, flags, threads, started = 0, 1, 3, 6, 17, 19
	if len(f) <= started {
		return Stat{}, false
	}
	const exiting = 0x4 // PF_EXITING
	set, _ := strconv.ParseUint(f[flags], 10, 64)
	s.Exiting = f[state] == "Z" || f[state] == "X" || set&exiting != 0
	s.Ended = f[state] == "X" || f[state] == "Z" && (f[threads] == "0" || f[threads] == "1")
	s.Parent, _ = strconv.Atoi(f[parent])
	s.Session, _ = strconv.Atoi(f[session])
	s.Started, err = strconv.ParseUint(f[started], 10, 64)
	return s, err == nil
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
