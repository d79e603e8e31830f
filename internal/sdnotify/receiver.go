package sdnotify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Receiver is the notify socket of one worker. Somebody has to wait in Next for as long as it is open: a sender may wait for room in
// the queue, or for its descriptors to be closed (sd_notify_barrier(3)).
type Receiver struct {
	file       *os.File // waits without holding a thread, and is woken by Close
	descriptor int
	address    string
}

// Listen makes a notify socket: on Linux in the abstract namespace, under the name and something random, so that nobody can have
// taken the address before; elsewhere in a folder of its own, under a name that cannot be guessed, since there is no telling who sends.
func Listen(name string) (*Receiver, error) {
	fd, address, err := listen(name)
	if err != nil {
		return nil, fmt.Errorf("open notify socket: %w", err)
	}
	return receiver(fd, address), nil
}

// Adopt takes over the descriptor and the address of a Receiver, after an exec. It is closed on the next exec again.
func Adopt(descriptor int, address string) *Receiver {
	unix.CloseOnExec(descriptor)
	return receiver(descriptor, address)
}

func receiver(fd int, address string) *Receiver {
	return &Receiver{file: os.NewFile(uintptr(fd), address), descriptor: fd, address: address}
}

// Descriptor is for handing the socket across an exec.
func (r *Receiver) Descriptor() int { return r.descriptor }

// Address is the value for NOTIFY_SOCKET.
func (r *Receiver) Address() string { return r.address }

// Close closes the socket and wakes Next. It removes the socket file where there is one.
func (r *Receiver) Close() error {
	err := r.file.Close()
	if strings.HasPrefix(r.address, "/") {
		err = errors.Join(err, os.Remove(r.address), os.Remove(filepath.Dir(r.address)))
	}
	return err
}

// Pause makes Next answer at once, as if the receiver were closed, until Resume. What is unread stays in the queue.
func (r *Receiver) Pause() { _ = r.file.SetReadDeadline(time.Now()) }

// Resume is the opposite of Pause.
func (r *Receiver) Resume() { _ = r.file.SetReadDeadline(time.Time{}) }

// A datagram may be as long as for systemd (NOTIFY_BUFFER_MAX, bytes) and bring as many descriptors as the kernel lets pass (SCM_MAX_FD).
const (
	maxDatagram    = 4096
	maxDescriptors = 253
)

// Next waits for the next datagram from a trusted sender; pid and uid are those that the kernel vouches for (0 for a process of
// another pid namespace). Whatever else arrives is dropped: oversized, cut or binary datagrams, and those of strangers. Descriptors
// that come along are closed at once. It is os.ErrClosed when the receiver is closed or pauses. Where the system does not tell who sends (not
// Linux), everyone who knows the address is trusted.
func (r *Receiver) Next(trusted func(pid, uid int) bool) (Message, error) {
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
		if err != nil { // package os does not tell this one as what it is
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

// receive takes one datagram from the queue. Where something of it was cut off it answers an empty one.
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
