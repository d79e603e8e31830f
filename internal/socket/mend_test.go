package socket

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMend checks that after shutdown(2) and Mend clients can connect to the same address again.
func TestMend(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	file := openPath(t, path)
	defer file.Close()
	for _, s := range []*Socket{openPort(t, "127.0.0.1:0"), openPort(t, "[::1]:0"), file} {
		addr, err := unix.Getsockname(s.FD)
		if err != nil {
			t.Fatal(err)
		}
		network, address := "tcp", addressKey(addr)
		if s.Path != "" {
			network = "unix"
		}
		connect := func() error {
			c, err := net.Dial(network, address)
			if err == nil {
				c.Close()
			}
			return err
		}
		if broken, err := s.Mend(10); broken || err != nil {
			t.Errorf("%s: broken %v, %v before shutdown", address, broken, err)
		}
		if s.Path != "" {
			if err := os.Chmod(path, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		for _, how := range []int{unix.SHUT_RD, unix.SHUT_RDWR} {
			if err := unix.Shutdown(s.FD, how); err != nil {
				t.Fatal(err)
			}
			if connect() == nil {
				t.Errorf("%s: shutdown(%d) did not break it", address, how)
			}
			if broken, err := s.Mend(10); !broken || err != nil {
				t.Errorf("%s: broken %v, %v after shutdown", address, broken, err)
			}
			if err := connect(); err != nil {
				t.Errorf("%s: %v after it was mended", address, err)
			}
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the socket file has not kept its mode: %v, %v", info, err)
	}
	udp := openPort(t, "127.0.0.1:u0")
	if broken, err := udp.Mend(10); broken || err != nil {
		t.Errorf("UDP: broken %v, %v", broken, err)
	}
}
