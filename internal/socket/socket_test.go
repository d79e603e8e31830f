package socket

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/portspec"
)

func openPort(t *testing.T, spec string) *Socket {
	t.Helper()
	p, err := portspec.Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenPort(p, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// openPath leaves it to the caller to close the socket, once.
func openPath(t *testing.T, path string) *Socket {
	t.Helper()
	s, err := OpenPath(path, 0, func(path string) { t.Error("nothing to remove, but", path) })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func option(t *testing.T, s *Socket, level, name int) int {
	t.Helper()
	value, err := unix.GetsockoptInt(s.FD, level, name)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestOpenPort(t *testing.T) {
	for _, test := range []struct {
		spec, key, bound string
		wish             int
		kind             int
	}{
		{"0", "0", "0.0.0.0:", -1, unix.SOCK_STREAM},
		{"127.0.0.1:0=7", "127.0.0.1:0", "127.0.0.1:", 7, unix.SOCK_STREAM},
		{"localhost:0", "localhost:0", "127.0.0.1:", -1, unix.SOCK_STREAM},
		{"127.0.0.1:u0", "127.0.0.1:0", "127.0.0.1:", -1, unix.SOCK_DGRAM},
		{"[::1]:0", "[::1]:0", "[::1]:", -1, unix.SOCK_STREAM},
	} {
		t.Run(test.spec, func(t *testing.T) {
			s := openPort(t, test.spec)
			addr, err := unix.Getsockname(s.FD)
			if err != nil {
				t.Fatal(err)
			}
			if bound := addressKey(addr); s.Key != test.key || s.RequestedFD != test.wish || !strings.HasPrefix(bound, test.bound) {
				t.Errorf("key %q, wish %d, bound to %s", s.Key, s.RequestedFD, bound)
			}
			if kind := option(t, s, unix.SOL_SOCKET, unix.SO_TYPE); kind != test.kind {
				t.Errorf("it is of type %d", kind)
			}
			if option(t, s, unix.SOL_SOCKET, unix.SO_REUSEADDR) == 0 {
				t.Error("SO_REUSEADDR is not set")
			}
			if strings.HasPrefix(test.spec, "[") && option(t, s, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) == 0 {
				t.Error("IPV6_V6ONLY is not set")
			}
			checkFlags(t, s)
		})
	}
}

// checkFlags: blocking, for those who share the open file description; and no child gets it by accident.
func checkFlags(t *testing.T, s *Socket) {
	t.Helper()
	status, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFL, 0)
	if err != nil || status&unix.O_NONBLOCK != 0 {
		t.Errorf("status flags %#x (%v): it does not block", status, err)
	}
	flags, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %#x (%v): it is inherited", flags, err)
	}
}

func TestOpenPortFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for spec, words := range map[string]string{
		taken.Addr().String():     "bind " + taken.Addr().String() + ": address already in use",
		"no-such-host.invalid:80": "resolve the host of --port no-such-host.invalid:80: ",
		"192.0.2.1:80":            "bind 192.0.2.1:80: ", // TEST-NET-1 is nobody's
	} {
		p, err := portspec.Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := OpenPort(p, 0); err == nil {
			s.Close()
			t.Errorf("%s was opened", spec)
		} else if !strings.HasPrefix(err.Error(), words) {
			t.Errorf("%s: %q does not begin with %q", spec, err, words)
		}
	}
}

func TestOpenPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	s := openPath(t, path)
	checkFlags(t, s)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeSocket|0o777 {
		t.Errorf("its mode is %v", info.Mode())
	}
	if s.Key != path || s.RequestedFD != -1 || !s.Same(path) || s.Same(path+"/none") {
		t.Errorf("%+v", s)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	s.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the file is left")
	}
}

func TestOpenPathInTheWay(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	old := openPath(t, stale) // of a superdaemon that was killed
	removed := ""
	s, err := OpenPath(stale, 16, func(path string) { removed = path })
	if err != nil || removed != stale {
		t.Fatalf("%v; %q was removed", err, removed)
	}
	if !s.Same(stale) || old.Same(stale) {
		t.Error("the file is still the old one")
	}
	old.Close()
	if _, err := os.Lstat(stale); err != nil {
		t.Error("the file went with the old socket:", err)
	}
	s.Close()

	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(precious, link); err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string]string{
		precious:                          "is not a socket",
		link:                              "is not a socket", // nor is what it points to looked at
		dir:                               "is not a socket",
		dir + "/no/such":                  "no such file or directory",
		precious + "/x":                   "not a directory",
		dir + strings.Repeat("/long", 40): "a socket address takes",
	} {
		if s, err := OpenPath(path, 0, nil); err == nil {
			s.Close()
			t.Errorf("%s was opened", path)
		} else if !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %q does not say %q", path, err, words)
		}
	}
	if text, err := os.ReadFile(precious); string(text) != "x" || err != nil {
		t.Errorf("the file holds %q (%v)", text, err)
	}
}
