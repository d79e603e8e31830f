package sdnotify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Receiver is the notify socket of one worker. While it is open a goroutine has to wait in Next: a
// sender may be waiting for room in the queue, or for its descriptors to be closed
// (sd_notify_barrier(3)).
type Receiver struct {
	file       *os.File // waits without holding a thread, and is woken by Close
	descriptor int
	address    string

	mu     sync.Mutex // of the deadline
	paused bool

	held       Message   // received, and not returned yet
	due        time.Time // when to return it
	ready      bool      // READY=1 was returned
	extendedAt time.Time // when EXTEND_TIMEOUT_USEC was returned
}

// Listen makes a notify socket. On Linux it is in the abstract namespace, its address the name and
// a random part, so that no other process can take the address first. Elsewhere it is in a
// directory of its own, under a name that cannot be guessed, because the sender of a datagram is
// not known there.
func Listen(name string) (*Receiver, error) {
	fd, address, err := listen(name)
	if err != nil {
		return nil, fmt.Errorf("open notify socket: %w", err)
	}
	return receiver(fd, address), nil
}

// Adopt returns a Receiver for the descriptor and the address that a Receiver had before an exec.
// It sets the close-on-exec flag again.
func Adopt(descriptor int, address string) *Receiver {
	unix.CloseOnExec(descriptor)
	return receiver(descriptor, address)
}

func receiver(fd int, address string) *Receiver {
	return &Receiver{file: os.NewFile(uintptr(fd), address), descriptor: fd, address: address}
}

// Descriptor returns the socket's descriptor, to keep it across an exec.
func (r *Receiver) Descriptor() int { return r.descriptor }

// Address returns the value for NOTIFY_SOCKET.
func (r *Receiver) Address() string { return r.address }

// Close closes the socket, wakes Next, and removes the socket file if there is one.
func (r *Receiver) Close() error {
	err := r.file.Close()
	if strings.HasPrefix(r.address, "/") {
		err = errors.Join(err, os.Remove(r.address), os.Remove(filepath.Dir(r.address)))
	}
	return err
}

// Pause makes Next return at once, as if the receiver were closed, until Resume is called. Unread
// datagrams stay in the queue.
func (r *Receiver) Pause() { r.setPaused(true, time.Now()) }

// Resume undoes Pause.
func (r *Receiver) Resume() { r.setPaused(false, time.Time{}) }

func (r *Receiver) setPaused(paused bool, deadline time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = paused
	_ = r.file.SetReadDeadline(deadline)
}

// A datagram may be as long as systemd allows (NOTIFY_BUFFER_MAX, in bytes), and may carry as many
// descriptors as the kernel allows (SCM_MAX_FD).
const (
	maxDatagram    = 4096
	maxDescriptors = 253
)

// interval is the least time between two messages that Next returns, of those that can wait.
const interval = 250 * time.Millisecond

// Next waits for the next message from a trusted sender. What the sender sends within a quarter of a
// second after the last message is one message, with the latest values, so that a flood costs little;
// the first READY=1, an EXTEND_TIMEOUT_USEC and ProcessVariable do not wait for that.
//
// It calls trusted with the sender's pid and uid as the kernel reports them (pid 0 for a process of
// another pid namespace). Other datagrams are dropped: oversized, truncated or binary ones, those
// without an assignment of Message, and those of other senders. Descriptors in them are closed at
// once. The error is os.ErrClosed if the receiver is closed or paused. On systems other than Linux the
// sender is not known, and every process that knows the address is trusted.
func (r *Receiver) Next(trusted func(pid, uid int) bool) (Message, error) {
	for {
		m, err := r.next(trusted)
		now := time.Now()
		r.held.add(m)
		urgent := m.Ready && !r.ready || m.Process != "" || m.Extend > 0 && now.Sub(r.extendedAt) >= interval
		switch {
		case r.held != Message{} && (urgent || err != nil || !now.Before(r.due)):
			m, r.held, r.due = r.held, Message{}, now.Add(interval)
			r.ready = r.ready || m.Ready
			if m.Extend > 0 {
				r.extendedAt = now
			}
			return m, nil
		case err != nil:
			return Message{}, err
		}
	}
}

// next waits for the next datagram, at most until the message that is held is due.
func (r *Receiver) next(trusted func(pid, uid int) bool) (Message, error) {
	r.mu.Lock()
	switch {
	case r.paused:
	case r.held == Message{}:
		_ = r.file.SetReadDeadline(time.Time{})
	default:
		_ = r.file.SetReadDeadline(r.due)
	}
	r.mu.Unlock()
	conn, err := r.file.SyscallConn()
	if err != nil {
		return Message{}, err
	}
	for {
		var datagram []byte
		var control []unix.SocketControlMessage
		var receiveErr error
		err := conn.Read(func(fd uintptr) bool {
			datagram, control, receiveErr = receive(int(fd))
			return receiveErr != unix.EAGAIN
		})
		if err != nil { // package os returns an error of its own here, not os.ErrClosed
			receiveErr = os.ErrClosed
		}
		if receiveErr != nil {
			return Message{}, fmt.Errorf("read notify socket: %w", receiveErr)
		}
		if m, ok := parse(datagram); ok && accept(control, trusted) {
			return m, nil
		}
	}
}

// receive takes one datagram from the queue. It returns an empty one if a part was cut off.
func receive(fd int) (datagram []byte, control []unix.SocketControlMessage, err error) {
	buffer := make([]byte, maxDatagram+1)
	oob := make([]byte, unix.CmsgSpace(credentialsSize)+unix.CmsgSpace(4*maxDescriptors))
	var n, oobn, flags int
	for {
		n, oobn, flags, _, err = unix.Recvmsg(fd, buffer, oob, receiveFlags)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, nil, err
	}
	control, err = unix.ParseSocketControlMessage(oob[:oobn])
	closeRights(control)
	if err != nil || n > maxDatagram || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return nil, nil, nil
	}
	return buffer[:n], control, nil
}

func closeRights(control []unix.SocketControlMessage) {
	for _, c := range control {
		if c.Header.Level != unix.SOL_SOCKET || c.Header.Type != syscall.SCM_RIGHTS {
			continue
		}
		descriptors, _ := unix.ParseUnixRights(&c)
		for _, fd := range descriptors {
			unix.Close(fd)
		}
	}
}
