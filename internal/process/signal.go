package process

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// SignalName returns the name of a signal without SIG, such as "TERM", or its number.
func SignalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return strconv.Itoa(int(sig))
}

// ParseSignal parses a signal as kill(1) and Server::Starter 0.35 do: its name in any case, with or
// without SIG, or its number.
func ParseSignal(name string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n > 0 && n <= maxSignal {
			return syscall.Signal(n), nil
		}
		return 0, fmt.Errorf("unknown signal %q", name)
	}
	word := strings.TrimPrefix(strings.ToUpper(name), "SIG")
	if sig := unix.SignalNum("SIG" + word); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("unknown signal %q", name)
}

const maxSignal = 64 // Linux; more than other systems have
