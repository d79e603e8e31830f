//go:build unix

package listener

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestActivatedChild is the program that TestActivation starts, and says what it was handed.
func TestActivatedChild(t *testing.T) {
	if os.Getenv("TEST_ACTIVATED_CHILD") == "" {
		t.Skip("is started by TestActivation")
	}
	report := func(what string, addr fmt.Stringer, err error) {
		fmt.Println(what, addr, err)
	}
	stream, err := ListenAll()
	for _, l := range stream {
		report("all", l.Addr().(*net.TCPAddr), err)
	}
	packets, err := ListenPacketAll()
	for _, p := range packets {
		report("packet", p.LocalAddr().(*net.UDPAddr), err)
	}
	l, err := Listen("tcp", os.Getenv("TEST_ACTIVATED_CHILD"))
	if err != nil {
		t.Fatal(err)
	}
	report("one", l.Addr().(*net.TCPAddr), err)
	if err := UnsetEnv(); err != nil || os.Getenv(listenFDs)+os.Getenv(listenPID) != "" {
		t.Fatal(err)
	}
	_, err = Listen("tcp", ":1")
	fmt.Println(err)
	_, err = Ports()
	fmt.Println(err)
}

func TestActivation(t *testing.T) {
	tcp, port := inet4(t, syscall.SOCK_STREAM, 127, 0, 0, 1)
	udp, udpPort := inet4(t, syscall.SOCK_DGRAM, 127, 0, 0, 1)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	run := func(pid string) string {
		t.Helper()
		cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=`+pid+` exec "$0" -test.v -test.run=TestActivatedChild$`, os.Args[0])
		for _, entry := range os.Environ() {
			if !strings.HasPrefix(entry, "SERVER_STARTER_") {
				cmd.Env = append(cmd.Env, entry)
			}
		}
		cmd.Env = append(cmd.Env, "LISTEN_FDS=3", "TEST_ACTIVATED_CHILD="+address)
		pipe, other, err := os.Pipe() // systemd passes descriptors of other kinds too
		if err != nil {
			t.Fatal(err)
		}
		defer pipe.Close()
		defer other.Close()
		for _, fd := range []uintptr{tcp, udp} {
			file, err := duplicate(fd)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			cmd.ExtraFiles = append(cmd.ExtraFiles, file)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, pipe)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}

	want := fmt.Sprintf(`all %[1]s <nil>
packet 127.0.0.1:%[2]d <nil>
one %[1]s <nil>
listen tcp :1: not passed by the service manager, which passed "%[1]s=3" (tcp %[1]s), "127.0.0.1:%[2]d=4" (udp 127.0.0.1:%[2]d)
no listening target
`, address, udpPort)
	if got := run("$$"); !strings.Contains(got, want) {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := run("1"); strings.Contains(got, "all ") || !strings.Contains(got, "address already in use") {
		t.Errorf("LISTEN_PID of another process: %s", got)
	}
}

func TestActivationMalformed(t *testing.T) {
	unsetenv(t, ServerStarterEnvVarName)
	t.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
	t.Setenv("LISTEN_FDS", "many")
	if _, err := ListenAll(); err == nil || err.Error() != `read LISTEN_FDS: "many" is not a number of descriptors` {
		t.Error(err)
	}
	t.Setenv("LISTEN_FDS", "0")
	if _, err := ListenAll(); err != ErrNoListeningTarget {
		t.Error(err)
	}
}
