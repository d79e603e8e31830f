//go:build unix

package listener

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// bound makes a blocking socket, as start_server does, that is closed at the end of the test.
func bound(t *testing.T, kind int, addr syscall.Sockaddr) uintptr {
	t.Helper()
	family := syscall.AF_INET
	switch addr.(type) {
	case *syscall.SockaddrInet6:
		family = syscall.AF_INET6
	case *syscall.SockaddrUnix:
		family = syscall.AF_UNIX
	}
	fd, err := syscall.Socket(family, kind, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if family == syscall.AF_INET6 {
		syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1)
	}
	if err := syscall.Bind(fd, addr); err != nil {
		t.Skip(err)
	}
	if kind != syscall.SOCK_DGRAM {
		if err := syscall.Listen(fd, 16); err != nil {
			t.Fatal(err)
		}
	}
	return uintptr(fd)
}

func inet4(t *testing.T, kind int, a, b, c, d byte) (fd uintptr, port int) {
	t.Helper()
	fd = bound(t, kind, &syscall.SockaddrInet4{Addr: [4]byte{a, b, c, d}})
	s, err := inspect(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, int(s.addr.Port())
}

func setenv(t *testing.T, targets ...Listener) {
	t.Helper()
	t.Setenv(ServerStarterEnvVarName, List(targets).String())
}

// unsetenv makes the test one of a program that was started by hand.
func unsetenv(t *testing.T, name string) {
	t.Helper()
	t.Setenv(name, "")
	os.Unsetenv(name)
}

// talk sends a word through the listener and back.
func talk(t *testing.T, l net.Listener) {
	t.Helper()
	addr := l.Addr()
	client, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(server, "word")
	server.Close()
	if word, err := io.ReadAll(client); string(word) != "word" {
		t.Errorf("got %q, %v", word, err)
	}
}

func flags(t *testing.T, fd uintptr, command int) int {
	t.Helper()
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, uintptr(command), 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	return int(flags)
}

func TestListenAllAgainAndAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with=equals.sock")
	tcp, port := inet4(t, syscall.SOCK_STREAM, 127, 0, 0, 1)
	unix := bound(t, syscall.SOCK_STREAM, &syscall.SockaddrUnix{Name: path})
	udp, udpPort := inet4(t, syscall.SOCK_DGRAM, 127, 0, 0, 1)
	setenv(t, TCPListener{"127.0.0.1", port, tcp, ""}, TCPListener{"127.0.0.1", udpPort, udp, ""}, UnixListener{path, unix, ""})

	for range 2 {
		all, err := ListenAll()
		if err != nil || len(all) != 2 {
			t.Fatal(all, err)
		}
		for _, l := range all {
			talk(t, l)
		}
		if flags(t, tcp, syscall.F_GETFD)&syscall.FD_CLOEXEC == 0 || flags(t, udp, syscall.F_GETFD)&syscall.FD_CLOEXEC == 0 {
			t.Error("would leak into children")
		}
		all[0].Close() // the other one is left to the garbage collector
		all = nil
		for range 3 {
			runtime.GC()
		}
		for _, fd := range []uintptr{tcp, unix} {
			if flags(t, fd, syscall.F_GETFL)&syscall.O_NONBLOCK == 0 {
				t.Error("set back to blocking mode, for all generations")
			}
		}
	}
	packets, err := ListenPacketAll()
	if err != nil || len(packets) != 1 || packets[0].LocalAddr().(*net.UDPAddr).Port != udpPort {
		t.Fatal(packets, err)
	}
	packets[0].Close()
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// A Unix listener that is closed must leave the file to the next generation.
func TestCloseLeavesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	setenv(t, UnixListener{path, bound(t, syscall.SOCK_STREAM, &syscall.SockaddrUnix{Name: path}), ""})
	l, err := Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestNoListeningTarget(t *testing.T) {
	check := func(what string) {
		t.Helper()
		if list, err := Ports(); list != nil || err != ErrNoListeningTarget {
			t.Errorf("%s: Ports: %v, %v", what, list, err)
		}
		if all, err := ListenAll(); all != nil || err != ErrNoListeningTarget {
			t.Errorf("%s: ListenAll: %v, %v", what, all, err)
		}
		if all, err := ListenPacketAll(); all != nil || err != ErrNoListeningTarget {
			t.Errorf("%s: ListenPacketAll: %v, %v", what, all, err)
		}
	}
	unsetenv(t, ServerStarterEnvVarName)
	check("not set")
	t.Setenv(ServerStarterEnvVarName, "")
	check("empty")

	udp, port := inet4(t, syscall.SOCK_DGRAM, 127, 0, 0, 1)
	setenv(t, TCPListener{"127.0.0.1", port, udp, ""})
	if all, err := ListenAll(); all != nil || err != ErrNoListeningTarget {
		t.Errorf("UDP only: %v, %v", all, err)
	}
}

func TestListenByHand(t *testing.T) {
	unsetenv(t, ServerStarterEnvVarName)
	l, err := Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	talk(t, l)
	packet, err := ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packet.Close()
}

func TestBadDescriptors(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	udp, _ := inet4(t, syscall.SOCK_DGRAM, 127, 0, 0, 1)
	tcp, _ := inet4(t, syscall.SOCK_STREAM, 127, 0, 0, 1)
	deaf, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(deaf)

	tests := []struct {
		fd     uintptr
		open   func(Listener) error
		reason string
	}{
		{1 << 30, openStream, "bad file descriptor"},
		{read.Fd(), openStream, "socket operation on non-socket"},
		{udp, openStream, "udp socket, to be opened by ListenPacket"},
		{tcp, openPacket, "tcp socket, to be opened by Listen"},
		{uintptr(deaf), openStream, "socket does not listen"},
		{1 << 30, openPacket, "bad file descriptor"},
	}
	for _, test := range tests {
		target := TCPListener{"0.0.0.0", 80, test.fd, ""}
		want := fmt.Sprintf(`open "80=%d" of SERVER_STARTER_PORT: %s`, test.fd, test.reason)
		if err := test.open(target); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}

	t.Setenv(ServerStarterEnvVarName, fmt.Sprintf("80=%d;81=%d", tcp, 1<<30))
	if all, err := ListenAll(); all != nil || !errors.Is(err, syscall.EBADF) {
		t.Error(all, err)
	}
}

func openStream(target Listener) error { _, err := target.Listen(); return err }
func openPacket(target Listener) error { _, err := listenPacket(target); return err }

// The processes that a server starts must not keep its sockets open.
func TestChildrenInheritNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	tcp, port := inet4(t, syscall.SOCK_STREAM, 127, 0, 0, 1)
	udp, udpPort := inet4(t, syscall.SOCK_DGRAM, 127, 0, 0, 1)
	setenv(t, TCPListener{"127.0.0.1", port, tcp, ""}, TCPListener{"127.0.0.1", udpPort, udp, ""})
	l, err := Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := exec.Command("/bin/ls", "-l", "/proc/self/fd").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range []uintptr{tcp, udp} {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil || strings.Contains(string(out), name) {
			t.Errorf("%s, %v, is among\n%s", name, err, out)
		}
	}
}

func TestGeneration(t *testing.T) {
	for value, want := range map[string]int{"1": 1, "42": 42, "": 0, "0": 0, "-1": 0, "x": 0} {
		t.Setenv("SERVER_STARTER_GENERATION", value)
		if got, ok := Generation(); got != want || ok != (want > 0) {
			t.Errorf("%q: got %d, %v", value, got, ok)
		}
	}
}

func TestReady(t *testing.T) {
	names := []string{filepath.Join(t.TempDir(), "notify")}
	if runtime.GOOS == "linux" {
		names = append(names, fmt.Sprintf("@start_server-test-%d", os.Getpid()))
	}
	for _, name := range names {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", name)
		if err := Ready(); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, 64)
		n, err := conn.Read(message)
		if err != nil || string(message[:n]) != "READY=1" {
			t.Errorf("%q, %v", message[:n], err)
		}
		conn.Close()
		if err := Ready(); err != nil {
			t.Errorf("%s: nothing listens: %v", name, err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", strings.Repeat("x", 1000))
	if err := Ready(); err == nil || !strings.Contains(err.Error(), "$NOTIFY_SOCKET") {
		t.Error(err)
	}
	unsetenv(t, "NOTIFY_SOCKET")
	if err := Ready(); err != nil {
		t.Error(err)
	}
}

// A socket that is handed to a child must not be made blocking, as the File method of package net
// does.
func TestFile(t *testing.T) {
	unsetenv(t, ServerStarterEnvVarName)
	l, err := Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := File(l.(syscall.Conn))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if flags(t, file.Fd(), syscall.F_GETFL)&syscall.O_NONBLOCK == 0 {
		t.Error("made blocking")
	}
	if s, err := inspect(file.Fd()); err != nil || fmt.Sprint(s.addr) != l.Addr().String() {
		t.Error(s, err)
	}
	l.Close()
	if file, err := File(l.(syscall.Conn)); err == nil {
		file.Close()
		t.Error("file of a closed listener")
	}
}

// What programs written for the two older packages of this name do.
func TestCompatibility(t *testing.T) {
	var all func() ([]net.Listener, error) = ListenAll
	var ports []Listener
	ports, _ = Ports()
	_, _ = all, ports
	unsetenv(t, ServerStarterEnvVarName)
	if IsUnderStartServer() {
		t.Error("under start_server")
	}
	config, err := PortsFallback()
	if err != nil {
		t.Fatal(err)
	}
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
