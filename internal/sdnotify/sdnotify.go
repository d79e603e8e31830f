// Package sdnotify speaks both sides of sd_notify(3): Send tells our own service manager, a Receiver hears what a worker tells us.
package sdnotify

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Send sends state, newline-separated assignments, as one datagram to the address that NOTIFY_SOCKET tells: an absolute path, or
// "@name" in the abstract namespace (Linux). It never waits: where the receiver's queue is full, that is an error.
func Send(address, state string) error {
	if err := send(address, state); err != nil {
		return fmt.Errorf("notify %q: %w", address, err)
	}
	return nil
}

func send(address, state string) error {
	if !strings.HasPrefix(address, "/") && !(abstract && strings.HasPrefix(address, "@")) {
		return errors.New("address is not supported")
	}
	fd, err := socket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		err = unix.Sendto(fd, []byte(state), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: address})
		if err != unix.EINTR {
			return err
		}
	}
}

// Message is what one datagram says. Other assignments of sd_notify(3) are not ours to act on.
type Message struct {
	Ready     bool          `json:"ready"`      // READY=1
	Stopping  bool          `json:"stopping"`   // STOPPING=1
	Status    string        `json:"status"`     // STATUS=, in UTF-8
	HasStatus bool          `json:"has_status"` // tells an empty status from none
	Extend    time.Duration `json:"extend"`     // EXTEND_TIMEOUT_USEC=, 0 where it does not say
}

// parse reads a datagram, unless it is no text.
func parse(datagram []byte) (m Message, ok bool) {
	datagram = bytes.TrimSuffix(datagram, []byte{0})
	if len(datagram) == 0 || bytes.IndexByte(datagram, 0) >= 0 {
		return Message{}, false
	}
	for line := range strings.SplitSeq(string(datagram), "\n") {
		name, value, _ := strings.Cut(line, "=")
		switch name {
		case "READY":
			m.Ready = m.Ready || value == "1"
		case "STOPPING":
			m.Stopping = m.Stopping || value == "1"
		case "STATUS":
			if utf8.ValidString(value) {
				m.Status, m.HasStatus = value, true
			}
		case "EXTEND_TIMEOUT_USEC":
			if n, err := strconv.ParseUint(value, 10, 63); err == nil && n <= math.MaxInt64/uint64(time.Microsecond) {
				m.Extend = time.Duration(n) * time.Microsecond
			}
		}
	}
	return m, true
}
