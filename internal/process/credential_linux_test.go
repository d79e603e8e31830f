package process

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStartAsUser checks that the program and the trampoline run as another user, with its groups
// and without privileges.
func TestStartAsUser(t *testing.T) {
	if err := CanChangeUser(); err != nil {
		t.Skip(err)
	}
	secret := t.TempDir()
	if err := os.Chmod(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	user := &syscall.Credential{Uid: 65534, Gid: 65533, Groups: []uint32{65533, 12345}}
	env := []string{"PATH=" + os.Getenv("PATH"), "LISTEN_PID="}
	shell := []string{"sh", "-c", "id -u; id -g; id -G; grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status"}
	const caps = "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapAmb:\t0000000000000000\n"
	for name, test := range map[string]struct {
		spec   Spec
		output string
		status int
	}{
		"ids":                  {Spec{Args: shell}, "65534\n65533\n65533 12345\n" + caps, 0},
		"trampoline":           {Spec{Args: shell, SetListenPID: true}, "65534\n65533\n65533 12345\n" + caps, 0},
		"another's directory":  {Spec{Args: shell, Dir: secret}, fmt.Sprintf("failed to chdir:%s:permission denied\n", secret), int(syscall.EACCES)},
		"another's executable": {Spec{Args: []string{file(t, 0o700, "")}}, "permission denied", 255},
	} {
		test.spec.Credential, test.spec.Env = user, env
		if _, output, status := run(t, test.spec); !strings.Contains(output, test.output) || status != test.status {
			t.Errorf("%s: output %q, status %d; want %q, %d", name, output, status, test.output, test.status)
		}
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 1 {
		t.Errorf("this process is not dumpable any more: %d, %v", dumpable, err)
	}
}

func TestStartAsUserRefused(t *testing.T) {
	err := CanChangeUser()
	if err == nil {
		t.Skip("this process can start processes of any user")
	}
	if !strings.Contains(err.Error(), "requires root, or CAP_SETUID") {
		t.Fatal(err)
	}
	if _, err := Start(Spec{Args: []string{"true"}, Credential: &syscall.Credential{Uid: 0}}); err == nil || strings.Contains(err.Error(), "fork(2)") {
		t.Error(err)
	}
}
