package orphan

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/portspec"
)

func TestNamedBy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		port  string // or a path
		value string
		want  bool
	}{
		{"8080", "8080=3", true},
		{"8080", "80=4;8080=3", true},
		{"8080", "0.0.0.0:8080=3", true},
		{"8080", "[::]:8080=3", true}, // as other implementations bind it
		{"8080", "127.0.0.1:8080=3", false},
		{"8080", "808=3", false},
		{"8080", "8080", false},
		{"8080", "", false},
		{"127.0.0.1:8080", "localhost:8080=3", true},
		{"localhost:8080", "127.0.0.1:8080=3", true},
		{"127.1:8080", "127.0.0.1:8080=3", true},
		{"127.0.0.1:8080", "2130706433:8080=3", true},
		{"0:8080", "8080=3", true},
		{"127.0.0.1:8080", "8080=3", false},
		{"127.0.0.1:8080", "127.0.0.1:0=3", true},
		{"127.0.0.1:8080", "127.0.0.2:0=3", false},
		{"127.0.0.1:u53", "127.0.0.1:53=3", true}, // the key does not show that it is UDP
		{"[::1]:8080", "[::1]:8080=3", true},
		{"[::1]:8080", "[0:0::1]:8080=3", true},
		{"/run/app.sock", "/run/app.sock=3", true},
		{"/run/app.sock", "app.sock=3", true}, // relative to the directory of the other superdaemon
		{"/run/app.sock", "/run/other.sock=3", false},
		{"/run/a=3.sock", "/run/a=3.sock=5", true},
	} {
		a := PathAddress(test.port)
		if test.port[0] != '/' {
			p, err := portspec.Parse(test.port)
			if err == nil {
				a, err = PortAddress(p)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := a.namedBy(test.value); got != test.want {
			t.Errorf("SERVER_STARTER_PORT=%q names %s: %v, want %v", test.value, test.port, got, test.want)
		}
	}
}

// TestReadStatus checks that a file which another user can have written is not trusted.
func TestReadStatus(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "status")
	write := func(mode os.FileMode) {
		if err := os.WriteFile(file, []byte("1:100\n3:300\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(0o644)
	s := readStatus(file)
	if s.generations[100] != 1 || s.generations[300] != 3 || time.Since(s.written) > time.Minute {
		t.Errorf("read %+v", s)
	}
	write(0o666)
	link := file + ".link"
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, link, filepath.Dir(file), file + ".none", ""} {
		if s := readStatus(name); len(s.generations) > 0 {
			t.Errorf("%q is trusted: %+v", name, s)
		}
	}
}
