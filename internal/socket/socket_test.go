package socket

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/account"
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

// openPath opens a unix socket, which the caller has to close.
func openPath(t *testing.T, path string) *Socket {
	t.Helper()
	s, err := OpenPath(path, 0, DefaultAccess, func(path string) { t.Error("nothing to remove, but", path) })
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
		requested        int
		kind             int
	}{
		{"0", "0", "0.0.0.0:", -1, unix.SOCK_STREAM},
		{"127.0.0.1:0=7", "127.0.0.1:0", "127.0.0.1:", 7, unix.SOCK_STREAM},
		{"localhost:0", "localhost:0", "127.0.0.1:", -1, unix.SOCK_STREAM},
		{"0:0", "0:0", "0.0.0.0:", -1, unix.SOCK_STREAM},
		{"127.1:0", "127.1:0", "127.0.0.1:", -1, unix.SOCK_STREAM},
		{"127.0.0.1:u0", "127.0.0.1:0", "127.0.0.1:", -1, unix.SOCK_DGRAM},
		{"[::1]:0", "[::1]:0", "[::1]:", -1, unix.SOCK_STREAM},
	} {
		t.Run(test.spec, func(t *testing.T) {
			s := openPort(t, test.spec)
			addr, err := unix.Getsockname(s.FD)
			if err != nil {
				t.Fatal(err)
			}
			if bound := addressKey(addr); s.Key != test.key || s.RequestedFD != test.requested || !strings.HasPrefix(bound, test.bound) {
				t.Errorf("key %q, requested descriptor %d, bound to %s", s.Key, s.RequestedFD, bound)
			}
			if kind := option(t, s, unix.SOL_SOCKET, unix.SO_TYPE); kind != test.kind {
				t.Errorf("socket type %d, want %d", kind, test.kind)
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

// checkFlags checks that the socket is in blocking mode, which workers share, and close-on-exec.
func checkFlags(t *testing.T, s *Socket) {
	t.Helper()
	status, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFL, 0)
	if err != nil || status&unix.O_NONBLOCK != 0 {
		t.Errorf("status flags %#x, %v; want blocking mode", status, err)
	}
	flags, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %#x, %v; want FD_CLOEXEC", flags, err)
	}
}

func TestOpenPortFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for spec, want := range map[string]string{
		taken.Addr().String():     "bind " + taken.Addr().String() + ": address already in use",
		"no-such-host.invalid:80": "resolve the host of --port no-such-host.invalid:80: ",
		"192.0.2.1:80":            "bind 192.0.2.1:80: ", // TEST-NET-1, which no host has
	} {
		p, err := portspec.Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := OpenPort(p, 0); err == nil {
			s.Close()
			t.Errorf("%s was opened", spec)
		} else if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %q does not begin with %q", spec, err, want)
		}
	}
}

var ipv4Tests = map[string]string{ // address: as gethostbyname(3) reads it
	"0": "0.0.0.0", "00000.0": "0.0.0.0", "127.1": "127.0.0.1", "2130706433": "127.0.0.1", "4294967295": "255.255.255.255",
	"1.2.3.4": "1.2.3.4", "1.2.65535": "1.2.255.255", "1.16777215": "1.255.255.255", "255.255.255.255": "255.255.255.255",
	"010.0.0.1": "8.0.0.1", "017700000001": "127.0.0.1", "000000000000000000017700000001": "127.0.0.1",
	"4294967296": "", "1.16777216": "", "1.2.65536": "", "1.2.3.256": "", "256.1": "", "1.256.1": "", "1.2.3.4.5": "", "1.2.3.0.0": "",
	"08": "", "127.0.08": "", "1..2": "", ".1": "", "1.": "", "": "", "99999999999999999999999999": "",
	"0x7f.1": "", "127.0.0x1": "", "0x": "", "0b1": "", "+1": "", "1_0": "", "127.1 ": "",
}

func TestParseIPv4(t *testing.T) {
	for host, want := range ipv4Tests {
		got, err := parseIPv4(host)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is %v, want an error", host, got)
		case want == "" && !strings.Contains(err.Error(), strconv.Quote(host)):
			t.Errorf("%q: the error does not quote it: %v", host, err)
		case want != "" && (err != nil || got.String() != want):
			t.Errorf("%q is %v, %v; want %s", host, got, err, want)
		}
	}
}

func FuzzParseIPv4(f *testing.F) {
	for host := range ipv4Tests {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if addr, err := netip.ParseAddr(host); err == nil && addr.Is4() {
			if got, err := parseIPv4(host); got != addr || err != nil {
				t.Errorf("%q is %v, %v", host, got, err)
			}
		}
		addr, err := parseIPv4(host)
		if err != nil {
			return
		}
		if strings.Trim(host, "0123456789.") != "" || !addr.Is4() {
			t.Fatalf("%q is %v", host, addr)
		}
		if looked, err := LookupIPv4(t.Context(), host); looked != addr || err != nil {
			t.Errorf("%q is %v, but looked up %v, %v", host, addr, looked, err)
		}
	})
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

// TestOpenPathAt checks that a path which begins with @ is the name of a file.
func TestOpenPathAt(t *testing.T) {
	t.Chdir(t.TempDir())
	s := openPath(t, "@sock")
	if s.Key != "@sock" || !s.Same("@sock") || !s.IsPath("@sock") {
		t.Errorf("%+v", s)
	}
	conn, err := net.Dial("unix", "./@sock")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	s.Close()
	if _, err := os.Lstat("@sock"); err == nil {
		t.Error("the file is left")
	}
}

func TestOpenPathInTheWay(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	old := openPath(t, stale) // of a superdaemon that was killed
	removed := ""
	s, err := OpenPath(stale, 16, DefaultAccess, func(path string) { removed = path })
	if err != nil || removed != stale {
		t.Fatalf("%v; %q was removed", err, removed)
	}
	if !s.Same(stale) || old.Same(stale) {
		t.Error("the file is still the old one")
	}
	old.Close()
	if _, err := os.Lstat(stale); err != nil {
		t.Error("closing the old socket removed the new file:", err)
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
	for path, want := range map[string]string{
		precious:                          "file exists and is not a socket",
		link:                              "file exists and is not a socket", // the link is not followed
		dir:                               "file exists and is not a socket",
		dir + "/no/such":                  "no such file or directory",
		precious + "/x":                   "not a directory",
		dir + strings.Repeat("/long", 40): "longer than a socket address allows",
	} {
		if s, err := OpenPath(path, 0, DefaultAccess, nil); err == nil {
			s.Close()
			t.Errorf("%s was opened", path)
		} else if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %q does not contain %q", path, err, want)
		}
	}
	if text, err := os.ReadFile(precious); string(text) != "x" || err != nil {
		t.Errorf("the file holds %q (%v)", text, err)
	}
}

// TestAccess checks that a socket file has the requested mode and owner, independent of the umask.
func TestAccess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	owner := account.Owner{UID: os.Geteuid(), GID: os.Getegid()}
	if os.Geteuid() == 0 {
		owner = account.Owner{UID: 12, GID: 34}
	}
	s, err := OpenPath(path, 0, Access{Mode: 0o640, Owner: owner}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Mode != unix.S_IFSOCK|0o640 || int(st.Uid) != owner.UID || int(st.Gid) != owner.GID {
		t.Errorf("its mode is %o, its owner %d:%d", st.Mode, st.Uid, st.Gid)
	}
}

// TestUmask checks that the umask, which is the whole process's, stays while a socket file is made.
func TestUmask(t *testing.T) {
	dir := t.TempDir()
	defer unix.Umask(unix.Umask(0o077))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 500 {
			s, err := OpenPath(filepath.Join(dir, "sock"), 0, DefaultAccess, nil)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		}
	}()
	for n := 0; ; n++ {
		file := filepath.Join(dir, strconv.Itoa(n))
		if err := os.WriteFile(file, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Fatalf("a file that was made meanwhile: %v, %v", info.Mode(), err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// TestAccessRefused checks that the socket file is removed if its owner cannot be changed.
func TestAccessRefused(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can change every owner")
	}
	path := filepath.Join(t.TempDir(), "sock")
	s, err := OpenPath(path, 0, Access{Mode: 0o777, Owner: account.Owner{UID: 0, GID: account.Unchanged}}, nil)
	if err == nil {
		s.Close()
		t.Fatal("the owner was changed")
	}
	if want := "change owner to 0:: operation not permitted"; !strings.Contains(err.Error(), want) {
		t.Errorf("%q does not contain %q", err, want)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the file is left")
	}
}

// TestNeverOpenToAll checks, by watching the file while it is made, that it has its mode from the
// beginning.
func TestNeverOpenToAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sock")
	done := make(chan struct{})
	watched := make(chan int)
	go func() {
		seen := 0
		for {
			var st unix.Stat_t
			if unix.Lstat(path, &st) == nil {
				if seen++; st.Mode&0o777 != 0o600 {
					t.Errorf("its mode is %o", st.Mode)
				}
			}
			select {
			case <-done:
				watched <- seen
				return
			default:
			}
		}
	}()
	for range 500 {
		s, err := OpenPath(path, 0, Access{Mode: 0o600, Owner: account.Owner{UID: os.Geteuid(), GID: account.Unchanged}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	close(done)
	if <-watched == 0 {
		t.Skip("the file was never seen")
	}
}
