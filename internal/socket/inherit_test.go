package socket

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/portspec"
)

// childVariable is set in the process that runs TestInInheritingChild. In this process the Go
// runtime uses the descriptors from 3 up.
const childVariable = "SOCKET_TEST_CHILD"

func TestInInheritingChild(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		t.Skip("run by TestInherit")
	}
	sockets, errs := Inherit(6, []int{3, 4, 5, 6, 7}, []string{"web", ""})
	for _, s := range sockets {
		flags, _ := unix.FcntlInt(uintptr(s.FD), unix.F_GETFD, 0)
		fmt.Println(s.FD, s.Key, s.Name, s.RequestedFD, flags&unix.FD_CLOEXEC != 0)
	}
	for _, err := range errs {
		fmt.Println(err)
	}
}

func TestInherit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var files []*os.File
	add := func(f *os.File, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	add(tcp.(*net.TCPListener).File())
	tcp6, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	defer tcp6.Close()
	add(tcp6.(*net.TCPListener).File())
	unixListener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unixListener.Close()
	add(unixListener.(*net.UnixListener).File())
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	add(os.NewFile(uintptr(pair[0]), "pair"), nil)
	add(os.Open("/dev/null"))

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self, "-test.run=^TestInInheritingChild$", "-test.gocoverdir="+flag.Lookup("test.gocoverdir").Value.String())
	child.Env = append(os.Environ(), childVariable+"=1")
	child.ExtraFiles = files
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	key6 := tcp6.Addr().String()
	want := strings.Join([]string{
		"3 " + tcp.Addr().String() + " web -1 true",
		"4 " + key6 + " " + strings.ReplaceAll(key6, ":", "_") + " -1 true",
		"5 " + path + " " + path + " -1 true",
		"6 @ @ -1 true", // bound to nothing
		"take over descriptor 7 of LISTEN_FDS=6: socket operation on non-socket",
		"take over descriptor 8 of LISTEN_FDS=6: not inherited",
	}, "\n")
	if !strings.HasPrefix(string(out), want) {
		t.Errorf("the child inherited\n%s\nwant\n%s", out, want)
	}
}

func TestIsPortAndIsPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	tcp, udp, any4, tcp6 := openPort(t, "127.0.0.1:0"), openPort(t, "127.0.0.1:u0"), openPort(t, "0"), openPort(t, "[::1]:0")
	file := openPath(t, path)
	defer file.Close()
	port := func(s *Socket) int {
		addr, err := unix.Getsockname(s.FD)
		if err != nil {
			t.Fatal(err)
		}
		if a, ok := addr.(*unix.SockaddrInet6); ok {
			return a.Port
		}
		return addr.(*unix.SockaddrInet4).Port
	}
	for _, test := range []struct {
		s    *Socket
		spec string
		want bool
	}{
		{tcp, fmt.Sprint("127.0.0.1:", port(tcp)), true},
		{tcp, fmt.Sprint("localhost:", port(tcp)), true},
		{tcp, fmt.Sprint("127.1:", port(tcp)), true},
		{any4, fmt.Sprint("0:", port(any4)), true},
		{tcp, fmt.Sprint("127.0.0.1:u", port(tcp)), false},
		{tcp, fmt.Sprint("127.0.0.2:", port(tcp)), false},
		{tcp, fmt.Sprint("127.0.0.1:", port(tcp)^1), false},
		{tcp, fmt.Sprint(port(tcp)), false},
		{tcp, fmt.Sprint("no-such-host.invalid:", port(tcp)), false},
		{tcp, fmt.Sprintf("[::1]:%d", port(tcp)), false},
		{any4, fmt.Sprint(port(any4)), true},
		{udp, fmt.Sprint("127.0.0.1:u", port(udp)), true},
		{udp, fmt.Sprint("127.0.0.1:", port(udp)), false},
		{tcp6, fmt.Sprintf("[::1]:%d", port(tcp6)), true},
		{tcp6, fmt.Sprint(port(tcp6)), false}, // bound to one address, not to any
		{tcp6, fmt.Sprint("127.0.0.1:", port(tcp6)), false},
		{file, "80", false},
		{&Socket{FD: -1}, "80", false},
	} {
		p, err := portspec.Parse(test.spec)
		if err != nil {
			t.Fatal(err)
		}
		if got := test.s.IsPort(p); got != test.want {
			t.Errorf("%s is %s: %v, want %v", test.s.Key, test.spec, got, test.want)
		}
	}
	if !file.IsPath(path) || file.IsPath(path+"x") || tcp.IsPath(path) || (&Socket{FD: -1}).IsPath(path) {
		t.Error("IsPath returns the wrong result")
	}
}

func TestIsPathInOtherSpellings(t *testing.T) {
	t.Parallel()
	run, other := t.TempDir(), t.TempDir()
	varRun := filepath.Join(other, "run")
	if err := errors.Join(os.Symlink(run, varRun), os.Symlink(filepath.Join(run, "s"), filepath.Join(other, "link"))); err != nil {
		t.Fatal(err)
	}
	s, twin := openPath(t, filepath.Join(run, "s")), openPath(t, filepath.Join(other, "s"))
	check := func() {
		t.Helper()
		for _, path := range []string{run + "/s", varRun + "/s", run + "/./s", varRun + "/../" + filepath.Base(run) + "/s"} {
			if !s.IsPath(path) {
				t.Errorf("the socket at %s is not recognized as %s", s.Path, path)
			}
		}
		for _, path := range []string{twin.Path, run + "/t", "s", run} {
			if s.IsPath(path) {
				t.Errorf("the socket at %s is taken for %s", s.Path, path)
			}
		}
	}
	check()
	if !s.IsPath(filepath.Join(other, "link")) {
		t.Errorf("the socket at %s is not recognized through a symbolic link", s.Path)
	}
	s.Close() // removes its file
	twin.Close()
	s = reopen(t, s.Path)
	check()
}

// reopen returns a socket bound to path whose file was removed.
func reopen(t *testing.T, path string) *Socket {
	t.Helper()
	s := openPath(t, path)
	t.Cleanup(s.Close)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	return s
}

func FuzzFDName(f *testing.F) {
	for _, key := range []string{"", "80", "127.0.0.1:80", "[::1]:80", "/run/app.sock", "a b\x7f\xff", strings.Repeat("x", 300)} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		name := FDName(key)
		if len(name) > 255 {
			t.Errorf("%d bytes", len(name))
		}
		for _, c := range []byte(name) {
			if c <= ' ' || c >= 0x7f || c == ':' {
				t.Errorf("%q becomes %q", key, name)
			}
		}
	})
}
