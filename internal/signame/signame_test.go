package signame

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSignals(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]syscall.Signal{
		"TERM": unix.SIGTERM, "term": unix.SIGTERM, "SIGTERM": unix.SIGTERM, "sigHup": unix.SIGHUP, "USR1": unix.SIGUSR1,
		"9": unix.SIGKILL, "64": 64, "": 0, "0": 0, "-1": 0, "65": 0, "SIG": 0, "SIGSIGTERM": 0, "nope": 0, "TERM ": 0,
		"CLD": unix.SIGCHLD, "iot": unix.SIGABRT, "ZERO": 0, "NUM": 0, "NUM31": 0, "NUM034": 0, "NUM034x": 0, "NUM65": 0,
	} {
		got, err := Parse(name)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("Parse(%q) = %v, %v; want %d", name, got, err, want)
		}
	}
	for name, want := range map[string]string{"TERM": "TERM", "sigusr1": "USR1", "SigTerm": "TERM", "15": "15", "+15": "+15", "cld": "CLD"} {
		if got := Word(name); got != want {
			t.Errorf("Word(%q) = %q, want %q", name, got, want)
		}
	}
	if name := Of(64); name != "64" {
		t.Errorf("Of(64) = %q", name)
	}
}

// TestPerlSignals checks the names of Linux that only Perl has: NUM34 and NUM64 are not among them.
func TestPerlSignals(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the names are those of Linux")
	}
	for name, want := range map[string]syscall.Signal{
		"POLL": unix.SIGIO, "RTMIN": 34, "SIGRTMAX": 64, "NUM32": 32, "num35": 35, "NUM63": 63, "NUM34": 0, "NUM64": 0,
	} {
		got, err := Parse(name)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("Parse(%q) = %v, %v; want %d", name, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"TERM", "sigusr1", "15", "64", "", "SIG", "x", "CLD", "RTMIN", "NUM35"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		sig, err := Parse(name)
		if err != nil {
			if !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
				t.Errorf("the error does not quote %q: %v", name, err)
			}
			return
		}
		if again, err := Parse(Of(sig)); again != sig || err != nil {
			t.Errorf("%q is %v, whose name %q is %v (%v)", name, sig, Of(sig), again, err)
		}
	})
}
