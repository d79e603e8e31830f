//go:build unix

package listener

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestListenByAddress(t *testing.T) {
	any4, anyPort := inet4(t, syscall.SOCK_STREAM, 0, 0, 0, 0)
	loop4, loopPort := inet4(t, syscall.SOCK_STREAM, 127, 0, 0, 1)
	setenv(t, TCPListener{"0.0.0.0", anyPort, any4, ""}, TCPListener{"localhost", loopPort, loop4, ""})

	tests := []struct {
		network, host string
		port          int
		found         bool
	}{
		{"tcp", "", anyPort, true},
		{"tcp4", "", anyPort, true},
		{"tcp6", "", anyPort, false},
		{"tcp", "0.0.0.0", anyPort, true},
		{"tcp", "127.0.0.1", anyPort, true},
		{"tcp", "localhost", anyPort, true},
		{"tcp", "[::1]", anyPort, false},
		{"tcp", "", loopPort, true},
		{"tcp", "0.0.0.0", loopPort, true},
		{"tcp", "127.0.0.1", loopPort, true},
		{"tcp", "localhost", loopPort, true},
		{"tcp", "127.0.0.2", loopPort, false},
		{"tcp", "[::1]", loopPort, false},
	}
	for _, test := range tests {
		address := fmt.Sprintf("%s:%d", test.host, test.port)
		l, err := Listen(test.network, address)
		if (err == nil) != test.found {
			t.Errorf("%s %s: %v", test.network, address, err)
		}
		if err != nil {
			continue
		}
		if l.Addr().(*net.TCPAddr).Port != test.port {
			t.Errorf("%s %s: got %v", test.network, address, l.Addr())
		}
		talk(t, l)
		l.Close()
	}
	l, err := Listen("tcp", fmt.Sprint(anyPort)) // the key itself, which is no address to net.Listen
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// Sockets on the same port, none of which is the first that happens to fit.
func TestListenTakesTheBest(t *testing.T) {
	loop6 := bound(t, syscall.SOCK_STREAM, &syscall.SockaddrInet6{Addr: [16]byte{15: 1}})
	s, err := inspect(loop6)
	if err != nil {
		t.Fatal(err)
	}
	port := int(s.addr.Port())
	any4 := bound(t, syscall.SOCK_STREAM, &syscall.SockaddrInet4{Port: port})
	udp := bound(t, syscall.SOCK_DGRAM, &syscall.SockaddrInet4{Port: port})
	setenv(t, TCPListener{"0.0.0.0", port, udp, ""}, TCPListener{"::1", port, loop6, ""}, TCPListener{"0.0.0.0", port, any4, ""})

	for host, want := range map[string]string{"": "0.0.0.0", "127.0.0.1": "0.0.0.0", "[::1]": "[::1]"} {
		l, err := Listen("tcp", fmt.Sprintf("%s:%d", host, port))
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Addr().String(); got != fmt.Sprintf("%s:%d", want, port) {
			t.Errorf("%q: got %s", host, got)
		}
		l.Close()
	}
	conn, err := ListenPacket("udp", fmt.Sprintf("localhost:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// systemd binds [::]:port so that IPv4 reaches it too.
func TestListenDualStack(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, _ := l.(*net.TCPListener).SyscallConn()
	raw.Control(func(fd uintptr) {
		port := l.Addr().(*net.TCPAddr).Port
		setenv(t, TCPListener{"::", port, fd, ""})
		s, err := inspect(fd)
		if err != nil || !s.dual {
			t.Skip("no dual stack here")
		}
		for _, host := range []string{"", "0.0.0.0", "127.0.0.1", "[::]", "[::1]", "localhost"} {
			l, err := Listen("tcp", fmt.Sprintf("%s:%d", host, port))
			if err != nil {
				t.Errorf("%q: %v", host, err)
				continue
			}
			l.Close()
		}
	})
}

func TestListenByPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	path := filepath.Join(dir, "app.sock")
	stream := bound(t, syscall.SOCK_STREAM, &syscall.SockaddrUnix{Name: path})
	relative := bound(t, syscall.SOCK_STREAM, &syscall.SockaddrUnix{Name: "relative:80"})
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	gram := bound(t, syscall.SOCK_DGRAM, &syscall.SockaddrUnix{Name: filepath.Join(dir, "gram")})
	setenv(t, UnixListener{path, stream, ""}, UnixListener{"relative:80", relative, ""}, UnixListener{"gram", gram, ""})

	for _, same := range []string{path, dir + "//app.sock", "app.sock", filepath.Join(dir, "link", "app.sock"), "relative:80", "./relative:80"} {
		l, err := Listen("unix", same)
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
	conn, err := ListenPacket("unixgram", filepath.Join(dir, "gram"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := Listen("unix", filepath.Join(dir, "gram")); err == nil {
		t.Error("a datagram socket was given for a stream")
	}
}

func TestListenNotHandedDown(t *testing.T) {
	tcp, port := inet4(t, syscall.SOCK_STREAM, 127, 0, 0, 1)
	setenv(t, TCPListener{"127.0.0.1", port, tcp, ""}, UnixListener{"/run/closed.sock", 1 << 30, ""})
	want := fmt.Sprintf("listen unix /run/app.sock: not passed by start_server, which passed "+
		`"127.0.0.1:%d=%d" (tcp 127.0.0.1:%d), "/run/closed.sock=1073741824" (bad file descriptor)`, port, tcp, port)
	if _, err := Listen("unix", "/run/app.sock"); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	want = fmt.Sprintf("listen udp 127.0.0.1:%d: not passed", port)
	if _, err := ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v", err)
	}
	for _, network := range []string{"udp", "no such"} {
		if _, err := Listen(network, ":80"); err == nil || !strings.Contains(err.Error(), "unknown network") {
			t.Errorf("%s: %v", network, err)
		}
	}
	for _, address := range []string{"80", ":no-such-service", "[::1:80"} {
		if _, err := Listen("tcp", address); err == nil {
			t.Errorf("%s: no error", address)
		}
	}
	t.Setenv(ServerStarterEnvVarName, "")
	want = "listen tcp :80: not passed by start_server, which passed nothing"
	if _, err := Listen("tcp", ":80"); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
