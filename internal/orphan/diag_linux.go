package orphan

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// sock_diag(7) lists the sockets that listen, or are not connected. It is much faster than
// /proc/net on a machine with many connections.

const (
	sockDiagByFamily = 20
	stateListen      = 1 << 10
	stateClose       = 1 << 7 // of a UDP socket: not connected
)

// dump sends a request to the kernel, and calls each with every answer, without its header.
func dump(request []byte, each func(answer []byte)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	native := binary.NativeEndian
	header := native.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(request)))
	header = native.AppendUint16(header, sockDiagByFamily)
	header = native.AppendUint16(header, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	header = native.AppendUint64(header, 0) // sequence number, port
	if err := unix.Sendto(fd, append(header, request...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if done, err := split(buf[:n], each); done || err != nil {
			return err
		}
	}
}

// split calls each with the answers in a datagram. It reports whether that ended with the last one
// of the dump.
func split(b []byte, each func(answer []byte)) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.SizeofNlMsghdr || length > len(b) {
			return true, unix.EBADMSG
		}
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			return true, unix.EOPNOTSUPP
		}
		each(b[unix.SizeofNlMsghdr:length])
		b = b[min((length+3)&^3, len(b)):]
	}
	return false, nil
}

// attributes calls each with the attributes of an answer (rtnetlink(7)).
func attributes(b []byte, each func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofNlAttr || length > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofNlAttr:length])
		b = b[min((length+3)&^3, len(b)):]
	}
}
