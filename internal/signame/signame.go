// Package signame has the names of signals, as kill(1), Perl and the log have them.
package signame

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Of returns the name of a signal without SIG, such as "TERM", or its number.
func Of(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return strconv.Itoa(int(sig))
}

// Parse parses a signal as kill(1) and Server::Starter 0.35 do: its name in any case, with or
// without SIG, or its number. It knows the names that Perl knows, except ZERO, which is no signal.
func Parse(name string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n > 0 && n <= maxSignal {
			return syscall.Signal(n), nil
		}
		return 0, fmt.Errorf("unknown signal %q", name)
	}
	word := Word(name)
	if sig := unix.SignalNum("SIG" + word); sig != 0 {
		return sig, nil
	}
	if sig := perlSignal(word); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("unknown signal %q", name)
}

// Word returns a name for Parse in the form of log lines: in upper case and without
// SIG. A number stays one (Server::Starter 0.35).
func Word(name string) string {
	return strings.TrimPrefix(strings.ToUpper(name), "SIG")
}

const (
	maxSignal   = 64 // Linux; more than other systems have
	realtimeMin = 34 // of the C library of Linux
)

// perlSignal returns the signal of a name that Perl knows and package unix does not, or 0.
func perlSignal(word string) syscall.Signal {
	switch word {
	case "CLD":
		return unix.SIGCHLD
	case "IOT":
		return unix.SIGABRT
	}
	if runtime.GOOS != "linux" {
		return 0
	}
	switch word {
	case "POLL":
		return unix.SIGIO
	case "RTMIN":
		return realtimeMin
	case "RTMAX":
		return maxSignal
	}
	for sig := 32; sig < maxSignal; sig++ {
		if word == "NUM"+strconv.Itoa(sig) && sig != realtimeMin {
			return syscall.Signal(sig)
		}
	}
	return 0
}
