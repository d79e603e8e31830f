//go:build unix

package listener

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/start-server/start-server/listener/internal/environ"
)

// A child sees neither the variables nor the sockets, and the server keeps both.
func TestUnsetEnv(t *testing.T) {
	t.Cleanup(environ.Forget)
	fd, port := inet4(t, syscall.SOCK_STREAM, 127, 0, 0, 1)
	if _, _, err := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFD, 0); err != 0 { // as it is inherited
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	t.Setenv(ServerStarterEnvVarName, fmt.Sprintf("%s=%d", address, fd))
	t.Setenv("SERVER_STARTER_GENERATION", "7")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv(notifySocket, manager.LocalAddr().String())

	child := func() string {
		script := fmt.Sprintf(`echo "$SERVER_STARTER_PORT,$NOTIFY_SOCKET"; if (: <&%d) 2>/dev/null; then echo socket; fi`, fd)
		out, err := exec.Command("bash", "-c", script).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	if got := child(); !strings.Contains(got, address) || !strings.Contains(got, "notify") || !strings.Contains(got, "socket") {
		t.Fatalf("the test is wrong: %q", got)
	}
	if err := UnsetEnv(); err != nil {
		t.Fatal(err)
	}
	if got := child(); got != "," {
		t.Errorf("the child sees %q", got)
	}
	if err := UnsetEnv(); err != nil { // again
		t.Error(err)
	}
	l, err := Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if n, ok := Generation(); n != 7 || !ok || !IsUnderStartServer() || !strings.HasPrefix(GetPortsSpecification(), address) {
		t.Error(n, ok, GetPortsSpecification())
	}
	state := make([]byte, 64)
	for _, want := range []string{"READY=1", "STATUS=warm"} {
		if err := Notify(want); err != nil {
			t.Fatal(err)
		}
		if n, err := manager.Read(state); string(state[:n]) != want {
			t.Errorf("%q, %v", state[:n], err)
		}
	}
}

// By hand nothing changes, and what cannot be understood is removed and reported.
func TestUnsetEnvElsewhere(t *testing.T) {
	t.Cleanup(environ.Forget)
	t.Setenv(notifySocket, "@manager")
	os.Unsetenv(ServerStarterEnvVarName)
	if err := UnsetEnv(); err != nil || os.Getenv(notifySocket) != "@manager" {
		t.Error(err, os.Getenv(notifySocket))
	}
	t.Setenv(ServerStarterEnvVarName, "80=x")
	err := UnsetEnv()
	if _, set := os.LookupEnv(ServerStarterEnvVarName); err == nil || !strings.Contains(err.Error(), `"80=x"`) || set {
		t.Error(err, set)
	}
}
