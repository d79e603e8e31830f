// Package sdnotify implements both sides of sd_notify(3): Send notifies the service manager of
// start_server, and a Receiver receives the notifications of a worker.
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

// Send sends state, newline-separated assignments, as one datagram to the address in NOTIFY_SOCKET:
// an absolute path, or "@name" in the abstract namespace (Linux). It never blocks: a full queue at
// the receiver is an error.
func Send(address, state string) error { return SendDescriptors(address, state, nil) }

// SendDescriptors is like Send, and passes descriptors along (FDSTORE=1).
func SendDescriptors(address, state string, fds []int) error {
	if err := send(address, state, fds); err != nil {
		return fmt.Errorf("notify %q: %w", address, err)
	}
	return nil
}

func send(address, state string, fds []int) error {
	if !strings.HasPrefix(address, "/") && !(abstract && strings.HasPrefix(address, "@")) {
		return errors.New("address is not supported")
	}
	fd, err := socket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var control []byte
	if len(fds) > 0 {
		control = unix.UnixRights(fds...)
	}
	for {
		err = unix.Sendmsg(fd, []byte(state), control, &unix.SockaddrUnix{Name: address}, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// Message holds the assignments of one datagram. Other assignments of sd_notify(3) are ignored.
type Message struct {
	Ready     bool          `json:"ready"`      // READY=1
	Status    string        `json:"status"`     // STATUS=, in UTF-8
	HasStatus bool          `json:"has_status"` // distinguishes an empty status from none
	Extend    time.Duration `json:"extend"`     // EXTEND_TIMEOUT_USEC=, 0 if absent
	Process   string        `json:"process"`    // ProcessVariable=, "" if absent
}

// ProcessVariable is the variable by which a worker of several processes reports on one of them
// (package copies).
const ProcessVariable = "X_START_SERVER_PROCESS"

// add adds the assignments of a later message, which replace those of m.
func (m *Message) add(later Message) {
	m.Ready = m.Ready || later.Ready
	if later.HasStatus {
		m.Status, m.HasStatus = later.Status, true
	}
	if later.Extend > 0 {
		m.Extend = later.Extend
	}
	m.Process = later.Process // Next returns it at once, so that there is no earlier one
}

// parse reads a datagram. It reports false if the datagram is not text.
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
		case "STATUS":
			if utf8.ValidString(value) {
				m.Status, m.HasStatus = value, true
			}
		case "EXTEND_TIMEOUT_USEC":
			if n, err := strconv.ParseUint(value, 10, 63); err == nil && n <= math.MaxInt64/uint64(time.Microsecond) {
				m.Extend = time.Duration(n) * time.Microsecond
			}
		case ProcessVariable:
			m.Process = value
		}
	}
	return m, true
}
