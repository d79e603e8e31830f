//go:build !386 && !s390x

package graceful

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"
	"unsafe"
)

// lastReceived returns when the kernel has received the last bytes, be they read or not. It is not
// known of anything but TCP.
func lastReceived(conn net.Conn) (time.Time, bool) {
	c, ok := transport(conn).(syscall.Conn)
	if !ok {
		return time.Time{}, false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return time.Time{}, false
	}
	var info syscall.TCPInfo
	size := uint32(unsafe.Sizeof(info))
	enough := uint32(unsafe.Offsetof(info.Last_data_recv) + unsafe.Sizeof(info.Last_data_recv))
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err != nil || errno != 0 || size < enough {
		return time.Time{}, false
	}
	return time.Now().Add(-time.Duration(info.Last_data_recv) * time.Millisecond), true
}

// closeReading lets the server read what has been received and then the end of the connection, so
// that a request which comes at the last moment is answered. On other systems it would be thrown
// away.
func closeReading(conn net.Conn) bool {
	c, ok := transport(conn).(interface{ CloseRead() error })
	return ok && c.CloseRead() == nil
}

func transport(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return conn
}
